package sqlserver_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
	"parkbridge/sources/sqlserver"
)

func TestDSN(t *testing.T) {
	t.Parallel()
	const form = "is not of the form sqlserver://user:password@host:1433?database=lot, or one of its options is wrong (docs/sqlserver.md lists them)"
	check := sqlserver.Driver().CheckDSN
	for dsn, want := range map[string]string{
		"sqlserver://u:p@host:1433?database=lot":                        "",
		`sqlserver://u:p@host/SQLEXPRESS?database=lot&encrypt=disable`:  "",
		"sqlserver://u:p@host?database=lot&encrypt=strict&tlsmin=1.3":   "",
		`server=host\SQLEXPRESS;user id=u;password="p;w";database=lot`:  "",
		"odbc:server=host;user id=u;password={p;w};database=lot":        "",
		"sqlserver://u:s3cret@host:1433":                                "names no database; add ?database=NAME to it",
		"server=host;user id=u;password=s3cret":                         "names no database; add ?database=NAME to it",
		"sqlserver://u:s3cret@host:port?database=lot":                   form,
		"sqlserver://u:s3cret@host?database=lot&encrypt=sometimes":      form,
		"sqlserver://u:s3cret@host?database=lot&database=s3cret":        form,
		"sqlserver://u:s3cret%@host?database=lot":                       form,
		"u:s3cret@tcp(host:1433)/lot":                                   form,
		"sqlserver://u:s3cret@host?database=lot&certificate=s3cret.pem": form,
	} {
		err := check(dsn)
		if want == "" {
			require.NoError(t, err, dsn)
			continue
		}
		require.EqualError(t, err, want, dsn)
	}
}

// Each connection is readied before its first statement, and again, reset by the
// server, each time it is taken from the pool.
func TestConnectionIsReadied(t *testing.T) {
	t.Parallel()
	const ready = "SET DEADLOCK_PRIORITY LOW; SET DATEFORMAT ymd; IF EXISTS (SELECT 1 FROM sys.databases WHERE database_id = DB_ID() AND is_read_committed_snapshot_on = 0 AND snapshot_isolation_state = 1) SET TRANSACTION ISOLATION LEVEL SNAPSHOT ELSE SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCK_TIMEOUT 0"
	l := passLot()
	s, r := openLot(t, l, nil, sources.Need{Column: "plate"})
	for range 2 {
		require.NoError(t, inSession(t, r, func(s *sources.Session) error { _, err := s.Page(t.Context(), sources.Range{}, 1); return err }))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Len(t, s.seen, 4)
	for i, q := range s.seen {
		require.Equal(t, i%2 == 0, q.reset)
		if q.reset {
			require.Equal(t, ready, q.sql)
		}
	}
}

// Every error that a first connection and a first look meet says what to do.
func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		on     string // the statement that fails
		number int32
		text   string
		want   string
	}{
		"no such table": {"SELECT TOP (0)", 208, "Invalid object name 'dbo.pass'.", "table: dbo.pass is not there, or this account does not see it: no such table: mssql: Invalid object name 'dbo.pass'. (208)"},
		"no SELECT": {
			"SELECT TOP (0)", 229, "The SELECT permission was denied on the object 'pass', database 'lot', schema 'dbo'.",
			"table: dbo.pass is not there, or this account does not see it: no such table: mssql: The SELECT permission was denied on the object 'pass', database 'lot', schema 'dbo'. (229)",
		},
		"no SELECT on a column": {
			"SELECT TOP (0)", 230, "The SELECT permission was denied on the column 'picture' of the object 'pass', database 'lot', schema 'dbo'.",
			"describing table dbo.pass: mssql: The SELECT permission was denied on the column 'picture' of the object 'pass', database 'lot', schema 'dbo'. (230)",
		},
		"a catalog that is locked": {
			"sys.all_columns", 1222, "Lock request time out period exceeded.",
			"describing table dbo.pass: the database is busy: another session holds rows of it locked: mssql: Lock request time out period exceeded. (1222)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := passLot()
			l.answer = func(q statement) []byte {
				if strings.Contains(q.sql, c.on) {
					return failure(c.number, c.text)
				}
				return nil
			}
			_, err := sources.Open(t.Context(), drivers, config(newStub(t, l.reply), ""), nil)
			require.EqualError(t, err, c.want)
		})
	}
}

// A server that breaks off says why, in as many messages as it likes.
func TestServerThatBreaksOff(t *testing.T) {
	t.Parallel()
	l := passLot()
	l.answer = func(q statement) []byte {
		if !strings.Contains(q.sql, "[dbo].[pass] WHERE ") {
			return nil
		}
		return append(errorToken(21, "Warning: Fatal error 823 occurred."), fatal(823, "The operating system\nreturned error 1117.")...)
	}
	_, r := openLot(t, l, nil, sources.Need{Column: "plate"})
	require.EqualError(t, readPage(t, r), "reading table dbo.pass: SQL Server had internal error: mssql: Warning: Fatal error 823 occurred. (21) mssql: The operating system returned error 1117. (823)")
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	s := newStub(t, nil)
	require.NoError(t, s.listener.Close())
	_, err := sources.Open(t.Context(), drivers, config(s, ""), nil)
	require.ErrorContains(t, err, "connecting to the database: unable to open tcp connection with host '127.0.0.1:")
	require.ErrorContains(t, err, " (is TCP/IP switched on in the SQL Server Configuration Manager, and the port open?; see docs/sqlserver.md)")
	require.NotContains(t, err.Error(), "s3cret")
}

func TestRowversionIsNoKey(t *testing.T) {
	t.Parallel()
	l := passLot()
	l.columns[0] = catalogRow("rv", "timestamp", 8, 0, 0, "", 0)
	cfg := config(newStub(t, l.reply), "")
	cfg.Key, cfg.Cursor = []string{"rv"}, "rv"
	_, err := sources.Open(t.Context(), drivers, cfg, nil)
	require.EqualError(t, err, "key: rv is a rowversion, which is another one after each edit of its row; it can be the cursor, but name a column as key that stays as it is")
}

func TestColumnsThatMayBeRead(t *testing.T) {
	t.Parallel()
	l := passLot()
	l.answer = func(q statement) []byte {
		if strings.HasPrefix(q.sql, "SELECT TOP (0) *") {
			return failure(230, "The SELECT permission was denied on the column 'picture'.")
		}
		if strings.HasPrefix(q.sql, "SELECT TOP (0)") {
			require.Equal(t, "SELECT TOP (0) [id], [PLATE] FROM [dbo].[pass]", q.sql)
			return table([]string{"id", "PLATE"}, true, []cell{bigint(1), nvarchar("x")})
		}
		return nil
	}
	_, r := openLot(t, l, nil, sources.Need{Column: "PLATE"})
	sql, _, err := r.PageSQL(sources.Range{}, 10)
	require.NoError(t, err)
	require.Contains(t, sql, "[id], [plate] FROM")
}

func TestOnlySelects(t *testing.T) {
	t.Parallel()
	s := newStub(t, passLot().reply)
	db, _, err := sqlserver.Driver().Open(t.Context(), config(s, ""))
	require.NoError(t, err)
	defer db.Close()
	conn, err := db.Connect(t.Context(), false)
	require.NoError(t, err)
	defer conn.Close()
	s.statements()
	_, err = conn.Query(t.Context(), "INSERT INTO pass VALUES (1)", nil, nil)
	require.EqualError(t, err, "only a SELECT may be sent to a source")
	require.Empty(t, s.statements())
}

// A statement that does not end is called off after its time, and the next one
// goes on; a server that accepts and says nothing is given up.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	l := passLot()
	s := newStub(t, func(q statement) []byte {
		if strings.Contains(q.sql, "[id] > ") {
			return nil
		}
		return l.reply(q)
	})
	cfg := config(s, "")
	cfg.StatementTimeout = 200 * time.Millisecond
	r, err := sources.Open(t.Context(), drivers, cfg, []sources.Need{{Column: "plate"}})
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, inSession(t, r, func(s *sources.Session) error {
		_, err := s.Page(t.Context(), sources.Range{After: sources.Position{Values: []string{"1"}}}, 10)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		return nil
	}))
	require.NoError(t, readPage(t, r))

	s = newStub(t, l.reply)
	s.silent = true
	_, err = sources.Open(t.Context(), drivers, config(s, "&connection+timeout=1"), nil)
	require.ErrorContains(t, err, "connecting to the database: ")
	require.ErrorContains(t, err, "i/o timeout")
}

// What old and new servers do about encryption, and what the dsn can say.
func TestEncryption(t *testing.T) {
	t.Parallel()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	server := func(bits int, version uint16, ciphers ...uint16) *tls.Config {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		require.NoError(t, err)
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		require.NoError(t, err)
		return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: version, MaxVersion: version, CipherSuites: ciphers}
	}
	// SQL Server makes itself a certificate of 1024 bits before 2017.
	old := server(1024, tls.VersionTLS10, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA)
	older := server(1024, tls.VersionTLS10, tls.TLS_RSA_WITH_RC4_128_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA)
	modern := server(2048, tls.VersionTLS12)
	for name, c := range map[string]struct {
		tls     *tls.Config
		options string
		want    string // "" where it connects
	}{
		"TLS 1.0":                       {old, "", "TLS Handshake failed: remote error: tls: protocol version not supported (the server speaks only an older TLS: tlsmin=1.0 in the dsn lets it, or encrypt=disable does without; see docs/sqlserver.md)"},
		"TLS 1.0, let":                  {old, "&tlsmin=1.0", ""},
		"TLS 1.0, without":              {old, "&encrypt=disable", ""},
		"older, without":                {older, "&encrypt=disable", ""},
		"TLS 1.2":                       {modern, "", ""},
		"TLS 1.2, trusted":              {modern, "&encrypt=true&trustservercertificate=true", ""},
		"older, let":                    {older, "&tlsmin=1.0", "TLS Handshake failed: remote error: tls: handshake failure (the two have no cipher in common, as with Windows before 2008 R2: say encrypt=disable in the dsn; see docs/sqlserver.md)"},
		"no encryption":                 {nil, "", ""},
		"no encryption, where it must":  {nil, "&encrypt=true", "server does not support encryption (say encrypt=disable in the dsn; see docs/sqlserver.md)"},
		"a certificate of nobody known": {modern, "&encrypt=true", "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs (the server's certificate is not one that this machine trusts: name it in the dsn with certificate=FILE.pem, or say trustservercertificate=true; see docs/sqlserver.md)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t, passLot().reply)
			s.tls = c.tls
			db, _, err := sqlserver.Driver().Open(t.Context(), config(s, c.options))
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			require.NoError(t, db.Close())
		})
	}
}
