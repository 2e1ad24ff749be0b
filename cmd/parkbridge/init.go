package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parkbridge/internal/draft"
	"parkbridge/sink"
	"parkbridge/sources"
)

// initOptions are the flags of init.
type initOptions struct {
	driver, dsn, dsnEnv  string
	table, out           string
	url, parkUUID, start string
	force                bool
}

// Bounds of what init asks of a production database.
const (
	initTables  = 40   // tables that are looked into
	initRows    = 50   // rows read of each
	initCount   = 1001 // rows counted of each at the most
	initTimeout = 10 * time.Second
)

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "init --driver NAME --dsn DSN",
		Short: "Draft a config from a database's schema",
		Long: `Draft a config from a database's schema. It looks for the table of exception
releases by names, comments, types and a few of the newest rows, shows what it
found, and writes a config for the best one if that stands out, or for --table.
Each line of it that a person must decide has a DECIDE. It only reads, and never
the columns of pictures; nothing is sent. The file holds no password.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.out == "" {
				o.out = a.configPath
			}
			return initExit(a.initDraft(cmd.Context(), o, cmd.InOrStdin()))
		},
	})
	f := cmd.Flags()
	f.StringVar(&o.driver, "driver", "", "the database: "+strings.Join(drivers().Names(), ", "))
	f.StringVar(&o.dsn, "dsn", "", "how to connect, in the driver's form; for sqlite a path")
	f.StringVar(&o.dsnEnv, "dsn-env", "", "the environment variable that holds the DSN; keeps a password out of the command line (default PARKBRIDGE_DSN)")
	f.StringVar(&o.table, "table", "", "the table to draft for, as the list names it")
	f.StringVar(&o.out, "out", "", "the file to write, - for the screen; default: that of -c")
	f.BoolVar(&o.force, "force", false, "overwrite the file if it is there")
	f.StringVar(&o.url, "url", "", "the gate's address, for a rehearsal (default "+draft.Platform+")")
	f.StringVar(&o.parkUUID, "park-uuid", "", "the lot's id, which the platform issues; else left to decide")
	f.StringVar(&o.start, "start", "", "earliest, latest or a value of the cursor; else latest, left to decide")
	return cmd
}

// initExit gives an error of init its exit code.
func initExit(err error) error {
	if mistake, ok := errors.AsType[*sources.ConfigError](err); ok {
		return &exit{exitUsage, fmt.Errorf("--%s %s", mistake.Key, mistake.Problem)}
	}
	if errors.Is(err, sources.ErrNoCatalog) {
		return &exit{exitUsage, fmt.Errorf("%w; write the source by hand, config.example.yaml shows every key", err)}
	}
	return classed(err)
}

func misuse(text string, args ...any) error { return &exit{exitUsage, fmt.Errorf(text, args...)} }

func (a *app) initDraft(ctx context.Context, o initOptions, stdin io.Reader) error {
	if err := o.check(a.json); err != nil {
		return err
	}
	dsn, written, err := o.connection()
	if err != nil {
		return err
	}
	e, err := sources.Explore(ctx, drivers(), sources.Config{Driver: o.driver, DSN: sources.Secret(dsn), StatementTimeout: initTimeout})
	if err != nil {
		return err
	}
	return errors.Join(a.draft(ctx, e, o, written, stdin), e.Close())
}

// draft looks into the database, shows the candidates, and writes the config.
func (a *app) draft(ctx context.Context, e *sources.Explorer, o initOptions, dsn string, stdin io.Reader) error {
	all, err := candidates(ctx, e, o.table)
	if err != nil {
		return err
	}
	if !a.json {
		a.printCandidates(a.beside(o), all)
	}
	best := all[0]
	if o.table == "" && !draft.Clear(all) {
		if best, err = a.ask(all, stdin); err != nil {
			if a.json {
				err = errors.Join(a.printJSON(initJSON{Candidates: candidatesJSON(all)}), err)
			}
			return err
		}
	}
	if !best.Looked() {
		if err := lookInto(ctx, e, best); err != nil {
			return err
		}
	}
	var assigned sources.Assigned
	if key := best.Key(); len(key) == 1 {
		if assigned, err = e.Assigned(ctx, best.Table(), key[0]); err != nil {
			return err
		}
	}
	config, decisions := best.Config(draft.Options{
		Driver: o.driver, DSN: dsn, URL: o.url, ParkUUID: o.parkUUID, Start: o.start, Assigned: assigned,
	})
	if err := o.write(a.stdout, config); err != nil {
		return err
	}
	unset := variables(config, os.LookupEnv)
	if a.json {
		return a.printJSON(initJSON{candidatesJSON(all), &best.Name, &o.out, decisions, unset})
	}
	printDraft(a.beside(o), o, best.Name, decisions, unset)
	return nil
}

// beside is where what is told goes: not among the config's own lines.
func (a *app) beside(o initOptions) io.Writer {
	if o.out == "-" {
		return a.stderr
	}
	return a.stdout
}

// candidates lists the tables, the likeliest first, and looks into the likely
// ones; where one is named, into that alone.
func candidates(ctx context.Context, e *sources.Explorer, table string) ([]*draft.Candidate, error) {
	tables, err := e.Tables(ctx)
	if err != nil {
		return nil, err
	}
	if len(tables) == 0 {
		return nil, misuse("the database has no table that this account may read; grant it SELECT on the one of the releases, or name another database in the DSN")
	}
	all := draft.Candidates(tables, time.Now())
	looked := all[:min(len(all), initTables)]
	if table != "" {
		i := slices.IndexFunc(all, func(c *draft.Candidate) bool { return c.Has(table) })
		if i < 0 {
			return nil, misuse("--table %s is not there, or this account does not see it; the likeliest tables are %s", table, names(all))
		}
		looked = all[i : i+1]
	}
	for _, c := range looked {
		if err := lookInto(ctx, e, c); err != nil {
			return nil, err
		}
	}
	if table != "" {
		all = looked
	}
	draft.Rank(all)
	return all, nil
}

// lookInto counts and samples a candidate's rows, within bounds. What cannot be
// read is noted with the candidate.
func lookInto(ctx context.Context, e *sources.Explorer, c *draft.Candidate) error {
	for {
		ctx, cancel := context.WithTimeout(ctx, initTimeout)
		n, err := sample(ctx, e, c)
		stopped := ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded)
		cancel()
		if stopped {
			return err
		}
		if err != nil {
			c.Unread(err)
			return nil
		}
		if n > 0 || !c.Older() {
			return nil
		}
	}
}

func sample(ctx context.Context, e *sources.Explorer, c *draft.Candidate) (int, error) {
	t := c.Table()
	if !t.View && t.Rows < initCount {
		n, err := e.Count(ctx, t, initCount)
		if err != nil {
			return 0, err
		}
		c.Counted(n, initCount)
	}
	columns, by := c.Wanted()
	if len(columns) == 0 {
		return 0, nil
	}
	rows, err := e.Newest(ctx, t, columns, by, initRows)
	if err == nil {
		c.Sampled(columns, rows, len(by) > 0)
	}
	return len(rows), err
}

// ask lets a person at a terminal choose among candidates of which none stands
// out; anybody else is told to name one.
func (a *app) ask(all []*draft.Candidate, stdin io.Reader) (*draft.Candidate, error) {
	in, isFile := stdin.(*os.File)
	if isFile {
		_, isFile = tty(in)
	}
	if _, out := tty(a.stdout); a.json || !isFile || !out {
		return nil, unclear(all)
	}
	return a.choose(all, stdin)
}

func unclear(all []*draft.Candidate) error {
	if all[0].Score < 30 {
		return misuse("no table looks like one of exception releases; if you know which it is, name it with --table")
	}
	return misuse("no table stands out; choose one of the list with --table, such as --table %s", all[0].Name)
}

func (a *app) choose(all []*draft.Candidate, stdin io.Reader) (*draft.Candidate, error) {
	fmt.Fprintf(a.stdout, "\nNo table stands out. Which one is it? Type its name, or nothing for %s: ", all[0].Name)
	answer, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil {
		return nil, unclear(all)
	}
	answer = strings.TrimSpace(answer)
	if answer == "" {
		return all[0], nil
	}
	i := slices.IndexFunc(all, func(c *draft.Candidate) bool { return c.Has(answer) })
	if i < 0 {
		return nil, misuse("%s is not there, or this account does not see it", answer)
	}
	return all[i], nil
}

// names lists the first few candidates.
func names(all []*draft.Candidate) string {
	var out []string
	for _, c := range all[:min(len(all), 5)] {
		out = append(out, c.Name)
	}
	return strings.Join(out, ", ")
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// check reports misuse of the flags.
func (o *initOptions) check(json bool) error {
	registry := drivers()
	switch _, known := registry[o.driver]; {
	case o.driver == "":
		return misuse("--driver is missing; it is one of %s", strings.Join(registry.Names(), ", "))
	case !known:
		return misuse("--driver %q is not known; it is one of %s", o.driver, strings.Join(registry.Names(), ", "))
	case o.dsn == "" && o.dsnEnv == "":
		return misuse("--dsn is missing; it says how to connect: %s", dsnForm(o.driver))
	case o.dsnEnv != "" && !envName.MatchString(o.dsnEnv):
		return misuse("--dsn-env %q is no name of an environment variable", o.dsnEnv)
	case o.start != "" && o.start != sources.StartEarliest && o.start != sources.StartLatest && !strings.ContainsAny(o.start, "0123456789"):
		return misuse("--start %q is neither earliest nor latest nor a value of the cursor", o.start)
	case o.out == "-" && json:
		return misuse("--json and --out - would both write to the screen; name a file with --out")
	}
	if o.url != "" {
		var problem error
		gate := sink.Config{URL: o.url}
		gate.Defaults()
		gate.Validate(func(key, text string) {
			if key == "url" {
				problem = misuse("--url %s", text)
			}
		})
		if problem != nil {
			return problem
		}
	}
	if _, err := os.Stat(o.out); err == nil && !o.force && o.out != "-" {
		return misuse("%s is there already; --force overwrites it, --out names another file", o.out)
	}
	return nil
}

func dsnForm(driver string) string {
	switch driver {
	case "postgres":
		return "postgres://user:password@host:5432/database"
	case "mysql":
		return "user:password@tcp(host:3306)/database"
	case "sqlserver":
		return "sqlserver://user:password@host:1433?database=name"
	case "sqlite":
		return "the file's path"
	}
	return "in the form that the README gives for " + driver
}

// connection gives the DSN to connect with and what the config has in its
// place: a path, or the name of a variable, never a password.
func (o *initOptions) connection() (dsn, written string, err error) {
	name := o.dsnEnv
	if name == "" {
		name = "PARKBRIDGE_DSN"
	}
	dsn = o.dsn
	if dsn == "" {
		if dsn = os.Getenv(name); dsn == "" {
			return "", "", misuse("--dsn-env %s is not set; set it to the DSN, %s, or give --dsn", name, dsnForm(o.driver))
		}
	}
	if o.driver == "sqlite" && o.dsnEnv == "" {
		return dsn, o.relative(dsn), nil
	}
	return dsn, "${" + name + "}", nil
}

// relative makes a path of this folder relative to the config's, where it is
// below that.
func (o *initOptions) relative(dsn string) string {
	if strings.HasPrefix(dsn, "file:") {
		return dsn
	}
	folder := "."
	if o.out != "-" {
		folder = filepath.Dir(o.out)
	}
	path, perr := filepath.Abs(dsn)
	base, berr := filepath.Abs(folder)
	if perr != nil || berr != nil {
		return dsn
	}
	if below, err := filepath.Rel(base, path); err == nil && filepath.IsLocal(below) {
		return below
	}
	return path
}

// write puts the config where it belongs and never over another file unless
// that is asked for.
func (o *initOptions) write(stdout io.Writer, text string) error {
	if o.out == "-" {
		_, err := io.WriteString(stdout, text)
		return err
	}
	mode := os.O_CREATE | os.O_WRONLY | os.O_EXCL
	if o.force {
		mode = os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	}
	f, err := os.OpenFile(o.out, mode, 0o600)
	if err != nil {
		return fmt.Errorf("writing the config: %w", err)
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}

var variable = regexp.MustCompile(`\$\{(\w+)\}`)

// variables lists those that a config names and that are not set.
func variables(text string, env func(string) (string, bool)) []string {
	out := []string{}
	for _, m := range variable.FindAllStringSubmatch(text, -1) {
		if _, set := env(m[1]); !set && !slices.Contains(out, m[1]) {
			out = append(out, m[1])
		}
	}
	return out
}
