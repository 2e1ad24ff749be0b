package testdb

import (
	"fmt"
	"net/url"
	"os"
	"testing"

	_ "github.com/microsoft/go-mssqldb" // "sqlserver" for database/sql
	"github.com/stretchr/testify/require"
)

const sqlServerVariable = "PARKBRIDGE_TEST_SQLSERVER"

// sqlServerTypes are what SQL Server has for types and statements of MySQL.
var sqlServerTypes = map[string]string{
	"BIGINT AUTO_INCREMENT PRIMARY KEY": "BIGINT IDENTITY PRIMARY KEY",
	"DATETIME(6)":                       "datetime2(6)",
	"TIMESTAMP":                         "datetimeoffset(0)",
	"TIMESTAMP(6)":                      "datetimeoffset(6)",
	"VARCHAR(40) COLLATE utf8mb4_bin":   "VARCHAR(40) COLLATE Chinese_PRC_BIN2",
	"`":                                 `"`,
	"ANALYZE TABLE pass":                "UPDATE STATISTICS pass",
	"START TRANSACTION":                 "BEGIN TRANSACTION",
}

// NewSQLServer makes a lot on SQL Server, whose database allows snapshots where
// that is said to be ON; the test is skipped where there is no server.
func NewSQLServer(t testing.TB, snapshots string) *Lot {
	t.Helper()
	admin := os.Getenv(sqlServerVariable)
	if admin == "" {
		t.Skip(sqlServerVariable + " is not set")
	}
	lot := sqlServerLot(t, admin)
	run(t, lot.DB, "ALTER DATABASE "+lot.name+" SET ALLOW_SNAPSHOT_ISOLATION "+snapshots)
	return lot
}

// sqlServerLot makes a database in which a text without N holds Chinese.
func sqlServerLot(t testing.TB, admin string) *Lot {
	t.Helper()
	name := fmt.Sprintf("lot_%d_%d", os.Getpid(), count.Add(1))
	server := open(t, "sqlserver", admin)
	run(t, server, "CREATE DATABASE "+name+" COLLATE Chinese_PRC_CI_AS")
	run(t, server, "CREATE LOGIN "+name+"_r WITH PASSWORD = 'Secret-17', CHECK_POLICY = OFF")
	t.Cleanup(func() {
		run(t, server, "ALTER DATABASE "+name+" SET SINGLE_USER WITH ROLLBACK IMMEDIATE")
		run(t, server, "DROP DATABASE "+name)
		run(t, server, "DROP LOGIN "+name+"_r")
	})
	u, err := url.Parse(admin)
	require.NoError(t, err)
	q := u.Query()
	q.Set("database", name)
	u.RawQuery = q.Encode()
	full := u.String()
	u.User = url.UserPassword(name+"_r", "Secret-17")
	lot := &Lot{Driver: "sqlserver", DB: open(t, "sqlserver", full), DSN: u.String(), Admin: full, reader: name + "_r", name: name}
	run(t, lot.DB, "CREATE USER "+name+"_r FOR LOGIN "+name+"_r")
	return lot
}
