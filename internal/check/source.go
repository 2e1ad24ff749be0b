package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"parkbridge/internal/config"
	"parkbridge/sources"
)

// skewMost is how far two clocks may be apart before it is worth a word.
const skewMost = time.Minute

// source is one source under inspection.
type source struct {
	*config.Source
	reporter
	c *Checker
	// period is that of the table that is looked at, of a series; else zero.
	period sources.Period

	about  sources.About
	reader *sources.Reader
	table  sources.Table  // as the catalogue has it
	listed bool           // the catalogue has it
	needs  []sources.Need // the columns of the mapping that are there
	// missing tells that columns of the mapping are not there, so that rows cannot
	// be mapped.
	missing bool
	sample  sources.Page // the newest rows
	sampled bool
	plan    sources.Plan // of the page that follows the newest row
	planned bool
	// unplanned says why the engine gives no plan, where it says so.
	unplanned string
}

func (s *source) run(ctx context.Context) {
	s.reporter = reporter{source: s.Name, tell: s.c.Tell}
	// What the account may do is asked of a table that is there.
	tables, ok := s.aside(func() bool { return s.Series == nil || s.series(ctx) })
	if ok {
		ok = s.ask(ctx)
	}
	for _, r := range tables {
		s.tell(r)
	}
	if !ok || !s.open(ctx) {
		return
	}
	defer func() {
		if err := s.reader.Close(); err != nil {
			s.warn("connection", do("nothing need be done"), "closing it: %v", err)
		}
	}()
	s.zone()
	s.columns()
	s.catalogue(ctx)
	s.read(ctx)
	s.checkKey(ctx)
	s.checkIndex()
	s.checkCursor(ctx)
	s.checkNulls(ctx)
	s.checkTypes(ctx)
	if s.sampled && !s.missing {
		s.checkMapping()
	}
}

// aside runs a check and keeps its results back.
func (s *source) aside(check func() bool) (results []Result, ok bool) {
	tell := s.tell
	s.tell = func(r Result) { results = append(results, r) }
	ok = check()
	s.tell = tell
	return results, ok
}

// ask connects and looks at the server, its clock and the account. It reports
// whether there is a connection.
func (s *source) ask(ctx context.Context) bool {
	about, clock, err := sources.Ask(ctx, s.c.Drivers, s.Config)
	s.about = about
	noConnection := (*sources.ConnectError)(nil)
	switch {
	case errors.As(err, &noConnection):
		s.connectionFailed(noConnection.Err)
		return false
	case errors.Is(err, sources.ErrNoInspector):
		s.ok("connection", "the %s server answers; its version and this account's rights cannot be told here", s.Driver)
	case err != nil:
		s.warn("connection", do("see what the message says; the other checks go on"), "the server answers, but not who it is: %v", err)
	case about.Account != "":
		s.ok("connection", "%s, as %s", about.Version, about.Account)
	default:
		s.ok("connection", "%s", about.Version)
	}
	s.clock(clock)
	for _, risk := range about.Risks {
		s.warn("files", do(risk.Do), "%s", risk.Found)
	}
	if err == nil {
		s.account()
	}
	return true
}

func (s *source) connectionFailed(err error) {
	if mistake, ok := errors.AsType[*sources.ConfigError](err); ok {
		s.fail("connection", Config, do("correct it in the configuration"), "%v", s.place(mistake))
		return
	}
	what := "see that the server runs, that dsn has its host, port, database, account and password, and that a firewall lets this PC in"
	if s.Driver == "sqlite" {
		what = "see that dsn is the path of the parking system's file, and that this account may read it"
	}
	s.fail("connection", Database, do(what), "%v", err)
}

// place gives a mistake its line in the file, where it has one.
func (s *source) place(mistake *sources.ConfigError) error { return s.c.Config.Wrap(mistake) }

func (s *source) clock(clock sources.Clock) {
	if !clock.Own {
		return // it is this machine's
	}
	ahead, word := clock.Ahead, "ahead of"
	if ahead < 0 {
		ahead, word = -ahead, "behind"
	}
	switch text := ahead.Round(time.Second).String(); {
	case ahead > skewMost:
		s.warn("clock", do("set the wrong one by a time server: how old a row is and when a retry is due are told by both"), "the server's clock is %s %s this PC's", text, word)
	case ahead >= time.Second:
		s.ok("clock", "the server's clock is %s %s this PC's", text, word)
	default:
		s.ok("clock", "the server's clock and this PC's agree")
	}
}

// account holds the account against "it may only read".
func (s *source) account() {
	a := s.about
	notes := strings.Join(a.Notes, "; ")
	if len(a.Writes) == 0 {
		switch {
		case a.Account == "":
			s.ok("account", "%s", notes)
		case notes != "":
			s.ok("account", "%s may only read, as far as can be seen: %s", a.Account, notes)
		default:
			s.ok("account", "%s may only read", a.Account)
		}
		return
	}
	lines := append(do("parkbridge never writes here; an account that cannot is the proof. A DBA makes one, for dsn:"), a.Readers...)
	if len(a.Revokes) > 0 {
		lines = append(lines, "Or, if no other program uses this account:")
		lines = append(lines, a.Revokes...)
	}
	s.warn("account", lines, "%s may do more than read: %s", a.Account, strings.Join(a.Writes, "; "))
}

// open opens the table. Columns of the mapping that are not there are told each,
// and left out. It reports whether there is something to look at.
func (s *source) open(ctx context.Context) bool {
	s.needs = s.Program.Needs()
	for {
		r, err := sources.Open(ctx, s.c.Drivers, s.Config, s.needs)
		if err == nil {
			s.reader = r
			return true
		}
		mistake, ok := errors.AsType[*sources.ConfigError](err)
		if !ok {
			s.fail("columns", Database, do("see what the message says: the server answers, but the table or query cannot be read"), "%v", err)
			return false
		}
		s.fail("columns", Config, do("correct the name in the configuration; it is the database's own, not that of the screens"), "%v", s.place(mistake))
		var left []sources.Need
		for _, n := range s.needs {
			if n.Column != mistake.Column {
				left = append(left, n)
			}
		}
		if len(left) == len(s.needs) {
			return false // it is not about a column of the mapping
		}
		s.needs, s.missing = left, true
	}
}

// zone holds the server's own zone against the config's, where date-times without
// a zone are read.
func (s *source) zone() {
	if s.about.Zone == "" || !s.zoneless() {
		return
	}
	_, seconds := s.c.Now().In(s.Location).Zone()
	want := time.Duration(seconds) * time.Second
	if s.about.Offset == want {
		s.ok("zone", "the server's own zone is %s (%s), which agrees with timezone %s", s.about.Zone, offset(want), s.Timezone)
		return
	}
	s.warn("zone", do(
		"No harm where the parking system writes its times itself. Where the server does (DEFAULT now()), set timezone to the server's.",
		"The age of the newest release, under mapping, shows which it is."),
		"the server's own zone is %s (%s), timezone is %s (%s)", s.about.Zone, offset(s.about.Offset), s.Timezone, offset(want))
}

// zoneless reports whether the database's own date-times without a zone are read.
func (s *source) zoneless() bool {
	for _, c := range append(s.reader.Mapped(), s.reader.Order()...) {
		if kindOf(c) == aTime && !c.Instant && !strings.Contains(strings.ToLower(c.Type), "with time zone") && !strings.Contains(strings.ToLower(c.Type), "offset") {
			return true
		}
	}
	return false
}

// offset writes a zone's distance from UTC.
func offset(d time.Duration) string {
	sign := '+'
	if d < 0 {
		sign, d = '-', -d
	}
	return fmt.Sprintf("%c%02d:%02d", sign, int(d.Hours()), int(d.Minutes())%60)
}

func (s *source) catalogue(ctx context.Context) {
	var err error
	if s.table, s.listed, err = s.reader.Table(ctx); err != nil {
		s.warn("catalogue", do("see what the message says; keys and indexes are judged by rows and plans alone"), "%v", err)
	}
}

// inSession runs f on a connection of its own.
func inSession[T any](ctx context.Context, r *sources.Reader, f func(*sources.Session) (T, error)) (out T, err error) {
	sess, err := r.Session(ctx, false)
	if err != nil {
		return out, err
	}
	out, err = f(sess)
	return out, errors.Join(err, sess.Close())
}

// read reads the newest rows, as a poll reads a page, and has the engine explain
// the page that follows them.
func (s *source) read(ctx context.Context) {
	var err error
	s.sample, err = inSession(ctx, s.reader, func(sess *sources.Session) (sources.Page, error) {
		return sess.Page(ctx, sources.Range{Newest: true}, s.c.Rows)
	})
	after := sources.Range{}
	if s.sampled = err == nil; s.sampled && len(s.sample.Rows) > 0 {
		after.After = s.sample.Rows[0].Position
	}
	var planErr error
	if !after.After.IsZero() || !s.sampled {
		s.plan, planErr = s.reader.Plan(ctx, after, s.PageSize)
		s.planned = planErr == nil
		if errors.Is(planErr, sources.ErrNoInspector) {
			s.unplanned = strings.Replace(strings.TrimPrefix(planErr.Error(), sources.ErrNoInspector.Error()), ": ", "; the server's plan of a poll was not to be had: ", 1)
		}
	}
	if err == nil {
		if planErr != nil && !errors.Is(planErr, sources.ErrNoInspector) {
			s.warn("rows", do("see what the message says; the index is judged by the catalogue alone"), "%v", planErr)
		}
		return
	}
	if errors.Is(err, sources.ErrNullKey) {
		return // which is told of the key
	}
	key := "where"
	if s.Query != "" {
		key = "query"
	}
	if planErr != nil && !errors.Is(planErr, sources.ErrNoInspector) && (s.Where != "" || s.Query != "") {
		// The statement is not even understood, and this part of it is the person's.
		s.fail("rows", Config, do("try it in the database's own tool, and correct it in the configuration"), "%v",
			s.place(&sources.ConfigError{Source: s.Name, Key: key, Problem: "is refused by the database: " + err.Error()}))
		return
	}
	s.fail("rows", Database, do("see what the message says; a time-out means that the table is read without an index (see below), or that statement_timeout is too short"), "%v", err)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
