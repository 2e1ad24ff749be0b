package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parkbridge/sources"
)

// The lines of SHOW GRANTS as servers of several ages print them.
func TestGrants(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]struct{ writes, revokes, note string }{
		"GRANT USAGE ON *.* TO 'p'@'%' IDENTIFIED BY PASSWORD '*00A51F3F48415C7D4E8908980D443C29C69B60C9'": {},
		"GRANT SELECT, PROCESS ON *.* TO `p`@`%`":                                                          {},
		"GRANT SELECT (`id`, `plate`) ON `lot`.`pass` TO `p`@`%`":                                          {},
		"GRANT SELECT, SHOW VIEW ON `lot`.* TO `p`@`%`":                                                    {},
		"GRANT SELECT, INSERT (`id`), UPDATE (`id`, `why`) ON `lot`.`pass` TO `p`@`%`": {
			writes: "INSERT, UPDATE on `lot`.`pass`", revokes: "REVOKE INSERT, UPDATE ON `lot`.`pass` FROM 'p'@'%';",
		},
		"GRANT ALL PRIVILEGES ON `lot`.* TO 'p'@'%' WITH GRANT OPTION": {
			writes: "ALL PRIVILEGES, GRANT OPTION on `lot`.*", revokes: "REVOKE ALL PRIVILEGES ON `lot`.* FROM 'p'@'%'; REVOKE GRANT OPTION ON `lot`.* FROM 'p'@'%'; GRANT SELECT ON `lot`.`pass` TO 'p'@'%';",
		},
		"GRANT ALL PRIVILEGES ON *.* TO 'root'@'localhost' IDENTIFIED BY PASSWORD '*X' WITH GRANT OPTION": {writes: "ALL PRIVILEGES, GRANT OPTION on *.*"},
		"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD ON *.* TO `root`@`%`":                 {writes: "INSERT, UPDATE, DELETE, CREATE and 2 more on *.*"},
		"GRANT EXECUTE ON PROCEDURE `lot`.`purge` TO `p`@`%`": {
			writes: "EXECUTE on PROCEDURE `lot`.`purge`", revokes: "REVOKE EXECUTE ON PROCEDURE `lot`.`purge` FROM 'p'@'%';",
		},
		"GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION": {},
		"GRANT `keeper`@`%` TO `p`@`%`":                                 {note: "it is in the role `keeper`@`%`, whose rights were not looked at"},
		"SET DEFAULT ROLE `keeper` FOR `p`@`%`":                         {},
	} {
		a := sources.About{Account: "'p'@'%'"}
		if g, ok := parseGrant(line); ok {
			describeGrants(&a, []grant{g}, "`lot`.`pass`")
		}
		list := func(s string) []string {
			if s == "" {
				return nil
			}
			return []string{s}
		}
		require.Equal(t, list(want.writes), a.Writes, line)
		require.Equal(t, want.revokes, strings.Join(a.Revokes, " "), line)
		require.Equal(t, list(want.note), a.Notes, line)
	}
	require.Equal(t, "MariaDB 10.11.19", product("10.11.19-MariaDB-0+deb12u1"))
	require.Equal(t, "MariaDB 10.2.44", product("5.5.5-10.2.44-MariaDB"))
	require.Equal(t, "MySQL 5.7.44", product("5.7.44-log"))
	require.Equal(t, "MySQL 8.0.36", product("8.0.36"))
}

// Tables of EXPLAIN as MySQL 5 and 8 and MariaDB give them.
func TestPlanSteps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		step map[string]string
		text string
		seek bool
		sort bool
		rows int64
	}{
		{map[string]string{"type": "range", "table": "pass", "key": "PRIMARY", "rows": "3", "extra": "Using where"}, "range on pass by PRIMARY", true, false, 3},
		{map[string]string{"type": "range", "table": "pass", "key": "pass_op", "rows": "3", "extra": "Using index condition; Using filesort"}, "range on pass by pass_op, filesort", true, true, 3},
		{map[string]string{"type": "index", "table": "pass", "key": "pass_op", "rows": "1000", "extra": "Using where"}, "index on pass by pass_op", false, false, 1000},
		{map[string]string{"type": "ALL", "table": "pass", "rows": "90000", "extra": "Using where; Using filesort"}, "ALL on pass, filesort", false, true, 90000},
		{map[string]string{"extra": "Impossible WHERE noticed after reading const tables"}, "impossible where noticed after reading const tables", true, false, 0},
	} {
		text, seek, sorts, rows := readStep(c.step)
		require.Equal(t, c.text, text)
		require.Equal(t, c.seek, seek, text)
		require.Equal(t, c.sort, sorts, text)
		require.Equal(t, c.rows, rows, text)
	}
}
