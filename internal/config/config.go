// Package config reads the one YAML file that says what to read, how to map it
// and where to send it. It composes what the other packages define, and
// reports every mistake with its line and column.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/robfig/cron/v3"

	"parkbridge/internal/capture"
	"parkbridge/internal/ledger"
	"parkbridge/mapping"
	"parkbridge/sink"
	"parkbridge/sources"
)

// Config is a whole, validated configuration.
type Config struct {
	// Ledger is where parkbridge keeps what became of every release.
	Ledger ledger.Config `yaml:"ledger"`
	// Sink is the platform.
	Sink sink.Config `yaml:"sink"`
	// Sources are the tables to read.
	Sources []Source `yaml:"sources"`
	// Log is how the program tells what it does.
	Log Log `yaml:"log"`

	// Path is the file it was read from.
	Path   string
	places map[string]place
}

// Source is one source: where its rows are, how they map, when it runs.
type Source struct {
	sources.Config `yaml:",inline"`
	// Timezone is the zone of date-times that carry none, and of the schedule.
	Timezone string `yaml:"timezone"`
	// Charset is that of text the database cannot vouch for; empty means utf-8.
	Charset string `yaml:"charset"`
	// MaxFuture is how far a mapped time may lie after the moment its row is
	// read; 0 means 24h.
	MaxFuture time.Duration `yaml:"max_future"`
	// Capture says how the rows are followed.
	Capture capture.Config `yaml:",inline"`
	// Schedule is a cron line for `run`: five fields, six with seconds, or @every.
	Schedule string `yaml:"schedule"`
	// Ready is an expression over the row's columns: a row is held back until it is
	// true. Empty means that every row is ready.
	Ready string `yaml:"ready"`
	// ReadyTimeout is how long a row is held back before it is set aside as invalid;
	// 0 means 168h.
	ReadyTimeout time.Duration `yaml:"ready_timeout"`
	// Mapping says which column fills which field of the gate.
	Mapping mapping.Rules `yaml:"mapping"`

	// Series is Table where that names several tables, one for each period; else nil.
	Series *sources.Series
	// Location is Timezone, loaded.
	Location *time.Location
	// Program is Mapping, compiled.
	Program *mapping.Program
	// Cron is Schedule, parsed; nil where there is none.
	Cron cron.Schedule
	// ReconcileCron is Capture.Reconcile.Schedule, parsed; nil where there is none.
	ReconcileCron cron.Schedule
}

// Log says how the program tells what it does.
type Log struct {
	// Level is debug, info, warn or error; empty means info.
	Level string `yaml:"level"`
	// Format is text or json; empty means text.
	Format string `yaml:"format"`
	// File is where the log goes; it rotates by size. Empty means stderr.
	File string `yaml:"file,path"`
}

// Problem is one mistake in the file.
type Problem struct {
	File         string
	Line, Column int
	Path         string // the key, such as sources[0].mapping.plate
	Text         string
}

func (p Problem) String() string {
	where := p.File + ": "
	if p.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
	}
	if p.Path == "" {
		return where + p.Text
	}
	return where + p.Path + " " + p.Text
}

// Error is every mistake of a file. Returned by [Load] and [Config.Wrap].
type Error struct {
	Problems []Problem
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Load reads and checks a file; drivers are those a source may name. Mistakes
// come back together as an [*Error].
func Load(path string, drivers sources.Registry) (*Config, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &Error{[]Problem{{File: path, Text: "is not there; copy config.example.yaml, or name another file with -c"}}}
	}
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return parse(raw, path, filepath.Dir(abs), drivers, os.LookupEnv)
}

func parse(raw []byte, path, dir string, drivers sources.Registry, env func(string) (string, bool)) (*Config, error) {
	c := &Config{Path: path, places: map[string]place{}}
	d := &decoder{dir: dir, env: env, places: c.places, anchors: map[string]ast.Node{}}
	if text, ok := d.text(raw); ok {
		d.parse(text, c)
	}
	if len(d.problems) == 0 || len(c.places) > 0 {
		c.complete(d, drivers)
	}
	if len(d.problems) > 0 {
		for i := range d.problems {
			d.problems[i].File = path
		}
		slices.SortStableFunc(d.problems, func(a, b Problem) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		return nil, &Error{d.problems}
	}
	return c, nil
}

// text checks the file's encoding; editors on Windows differ in it.
func (d *decoder) text(raw []byte) (string, bool) {
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if bytes.HasPrefix(raw, []byte("\xff\xfe")) || bytes.HasPrefix(raw, []byte("\xfe\xff")) {
		d.report("", place{1, 1}, "is UTF-16; save it as UTF-8")
		return "", false
	}
	for i, line := range bytes.Split(raw, []byte("\n")) {
		if !utf8.Valid(line) {
			d.report("", place{i + 1, 1}, "holds bytes that are not UTF-8; save the file as UTF-8 (in Notepad: Save as, Encoding)")
			return "", false
		}
	}
	return strings.ReplaceAll(string(raw), "\r\n", "\n"), true
}

// at is the place of a key or, where it is not in the file, of what should
// have held it.
func (c *Config) at(path string) place {
	for {
		if p, ok := c.places[path]; ok {
			return p
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return place{1, 1}
		}
		path = path[:cut]
	}
}

// spoilt reports that a value could not be read, so that what follows from it
// is not reported too. unread are the mistakes found in reading.
func spoilt(unread []Problem, path string) bool {
	return slices.ContainsFunc(unread, func(p Problem) bool {
		return p.Path == path || strings.HasPrefix(p.Path, path+"[") || strings.HasPrefix(path, p.Path+".") && p.Path != ""
	})
}

// complete fills in defaults and checks what the decoder could not.
func (c *Config) complete(d *decoder, drivers sources.Registry) {
	unread := slices.Clone(d.problems)
	under := func(prefix string) func(key, problem string) {
		return func(key, problem string) {
			path := strings.TrimSuffix(join(prefix, key), ".")
			if !spoilt(unread, path) {
				d.report(path, c.at(path), problem)
			}
		}
	}
	c.Ledger.Defaults()
	if c.Ledger.Driver == "sqlite" {
		c.Ledger.DSN = sources.Secret(d.dsnPath(string(c.Ledger.DSN)))
	}
	c.Ledger.Validate(under("ledger"))
	c.Sink.Defaults()
	c.Sink.Validate(under("sink"))
	c.Log.validate(under("log"))
	if len(c.Sources) == 0 {
		under("")("sources", "is missing; name at least one table to read")
	}
	names := map[string]bool{}
	for i := range c.Sources {
		s := &c.Sources[i]
		report := under(fmt.Sprintf("sources[%d]", i))
		if s.Name != "" && names[s.Name] {
			report("name", fmt.Sprintf("%q is the name of another source too", s.Name))
		}
		names[s.Name] = true
		if s.Driver == "sqlite" {
			s.DSN = sources.Secret(d.dsnPath(string(s.DSN)))
		}
		s.checkDriver(drivers, report)
		s.complete(c.Sink.ParkUUID, report)
	}
}

// dsnPath makes a relative SQLite path relative to the config file.
func (d *decoder) dsnPath(dsn string) string {
	if strings.HasPrefix(dsn, "file:") {
		return dsn
	}
	return d.relative(dsn)
}

// checkDriver reports a driver there is not, and a DSN it could not read.
func (s *Source) checkDriver(drivers sources.Registry, report func(key, problem string)) {
	driver, ok := drivers[s.Driver]
	if s.Driver != "" && !ok {
		report("driver", fmt.Sprintf("%q is not known; it is one of %s", s.Driver, strings.Join(drivers.Names(), ", ")))
	}
	if ok && s.DSN != "" && driver.CheckDSN != nil {
		if err := driver.CheckDSN(string(s.DSN)); err != nil {
			report("dsn", err.Error())
		}
	}
}

const sourceNameMost = 64 // characters

// isName reports that a text begins with a letter or a digit, and goes on with
// those, dots, dashes and underscores. As a pattern it would cost every start.
func isName(s string) bool {
	at := strings.IndexFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != '.' && r != '_' && r != '-'
	})
	return s != "" && at < 0 && !strings.ContainsRune("._-", rune(s[0])) && utf8.RuneCountInString(s) <= sourceNameMost
}

// cronParser reads five fields, six with seconds in front, and descriptors.
var cronParser = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

func (s *Source) complete(parkUUID string, report func(key, problem string)) {
	s.Defaults()
	s.Validate(report)
	s.Series, _ = sources.ParseSeries(s.Table, s.Wrap) // a mistake was reported
	s.Capture.Defaults()
	s.Capture.Validate(cronParser, report)
	if s.MaxFuture < 0 {
		report("max_future", "must not be negative; it is how far ahead a time may lie, 24h where it is left out")
	}
	if s.MaxFuture == 0 {
		s.MaxFuture = 24 * time.Hour
	}
	if s.ReadyTimeout < 0 {
		report("ready_timeout", "must not be negative; it is how long a row is held back, 168h where it is left out")
	}
	if s.ReadyTimeout == 0 {
		s.ReadyTimeout = 168 * time.Hour
	}
	if s.Name != "" && !isName(s.Name) {
		report("name", "must be letters, digits, dots, dashes and underscores, 64 at most")
	}
	switch loc, err := time.LoadLocation(s.Timezone); {
	case s.Timezone == "Local":
		report("timezone", "cannot be this machine's, which may change; name the zone the lot's clocks are in, such as Asia/Shanghai")
	case s.Timezone == "":
		report("timezone", "is missing; name the zone the lot's clocks are in, such as Asia/Shanghai")
	case err != nil:
		report("timezone", fmt.Sprintf("%q is not a zone of the IANA database, such as Asia/Shanghai", s.Timezone))
	default:
		s.Location = loc
		s.Config.Location = loc
	}
	if s.Capture.CursorFormat != "" {
		layout, err := cursorLayout(s.Capture.CursorFormat)
		if err != nil {
			report("cursor_format", err.Error())
		}
		s.CursorLayout = layout
	}
	if !mapping.ValidCharset(s.Charset) {
		report("charset", fmt.Sprintf("%q is not known; it is one of utf-8, gbk, gb18030, gb2312, big5, latin-1", s.Charset))
	}
	if s.Schedule != "" {
		schedule, err := cronParser.Parse(s.Schedule)
		if err != nil {
			report("schedule", fmt.Sprintf("is not a cron line such as */5 * * * * or @every 30s: %v", err))
		} else {
			s.Cron = inZone(schedule, s.Location)
		}
	}
	if schedule, err := cronParser.Parse(s.Capture.Reconcile.Schedule); err == nil { // a mistake was reported
		s.ReconcileCron = inZone(schedule, s.Location)
	}
	if len(s.Mapping) == 0 {
		report("mapping", "is missing; it says which column fills which field of the gate")
		return
	}
	loc := s.Location
	if loc == nil {
		loc = time.UTC // already reported; the other rules are still checked
	}
	rules := maps.Clone(s.Mapping)
	if _, ok := rules[sink.FieldParkUUID]; !ok && parkUUID != "" {
		rules[sink.FieldParkUUID] = mapping.Rule{Const: &parkUUID}
	}
	var contract []mapping.Field
	for _, f := range sink.Contract() {
		contract = append(contract, mapping.Field(f))
	}
	settings := mapping.Settings{Location: loc, Charset: s.Charset, MaxFuture: s.MaxFuture, Series: s.IsSeries()}
	s.Program = mapping.Compile(rules, contract, settings, func(path, problem string) {
		report(strings.TrimSuffix("mapping."+path, "."), problem)
	})
	if s.Ready != "" {
		if err := s.Program.Await(s.Ready, settings); err != nil {
			report("ready", err.Error())
		}
	}
	if s.Capture.OnChange == capture.ChangeResend && !s.Program.UsesRevision(sink.FieldFlowNo) {
		report("on_change", `cannot be resend, because the mapping gives a changed row the flow_no it had, and the platform ignores a second one; let flow_no tell revisions apart, such as { expr: '"EX" + string(id) + (revision > 0 ? "-" + string(revision) : "")' }`)
	}
}

// cursorLayout turns a pattern of a text cursor into a layout of package time.
// The parts must stand in order, or the text would not sort as the times do.
func cursorLayout(pattern string) (string, error) {
	switch pattern {
	case sources.CursorUnix, sources.CursorUnixMS:
		return pattern, nil
	case "yyyyMMddHHmmssSSS":
		return "20060102150405", nil // read and written with its milliseconds by its length
	}
	rest, layout, at := pattern, "", 0
	for _, part := range []struct{ letters, layout string }{{"yyyy", "2006"}, {"MM", "01"}, {"dd", "02"}, {"HH", "15"}, {"mm", "04"}, {"ss", "05"}} {
		before, after, found := strings.Cut(rest, part.letters)
		if !found && at >= 3 {
			break // a date, or a time without seconds
		}
		if !found {
			return "", fmt.Errorf("%q must have yyyy, MM and dd in this order, then HH, mm and ss as far as there are any; or be unix or unix_ms", pattern)
		}
		layout, rest, at = layout+strings.ReplaceAll(before, "'", "")+part.layout, after, at+1
	}
	layout += strings.ReplaceAll(rest, "'", "")
	if unknown := strings.Trim(layout, "0123456789-/.:_ T年月日时分秒"); unknown != "" {
		return "", fmt.Errorf("%q: %q means nothing here; known are yyyy MM dd HH mm ss with - / . : _ T or a space between them, unix and unix_ms", pattern, unknown)
	}
	return layout, nil
}

// inZone runs a schedule by the clocks of a zone.
func inZone(schedule cron.Schedule, loc *time.Location) cron.Schedule {
	if s, ok := schedule.(*cron.SpecSchedule); ok && loc != nil {
		s.Location = loc
	}
	return schedule
}

func (l *Log) validate(report func(key, problem string)) {
	if !slices.Contains([]string{"", "debug", "info", "warn", "error"}, l.Level) {
		report("level", fmt.Sprintf("%q is not one of debug, info, warn, error", l.Level))
	}
	if !slices.Contains([]string{"", "text", "json"}, l.Format) {
		report("format", fmt.Sprintf("%q is not one of text, json", l.Format))
	}
}

// Source finds a source by name.
func (c *Config) Source(name string) (*Source, error) {
	var names []string
	for i := range c.Sources {
		if c.Sources[i].Name == name {
			return &c.Sources[i], nil
		}
		names = append(names, c.Sources[i].Name)
	}
	return nil, fmt.Errorf("no source is named %q; there are %s", name, strings.Join(names, ", "))
}

// Wrap gives a mistake that only the database could show its place in the
// file; any other error comes back as it is.
func (c *Config) Wrap(err error) error {
	var ce *sources.ConfigError
	if !errors.As(err, &ce) || strings.HasPrefix(ce.Key, "--") { // a flag has no place in the file
		return err
	}
	for i := range c.Sources {
		if c.Sources[i].Name != ce.Source {
			continue
		}
		path := fmt.Sprintf("sources[%d].%s", i, ce.Key)
		if ce.Column != "" && strings.Contains(c.Sources[i].Ready, ce.Column) {
			path = fmt.Sprintf("sources[%d].ready", i)
		}
		for field, rule := range c.Sources[i].Mapping {
			if ce.Column != "" && (rule.Column == ce.Column || strings.Contains(rule.Expr, ce.Column)) {
				path = fmt.Sprintf("sources[%d].mapping.%s", i, field)
				if _, ok := c.places[path+".column"]; ok {
					path += ".column"
				}
				break
			}
		}
		at := c.at(path)
		return &Error{[]Problem{{File: c.Path, Line: at.line, Column: at.column, Path: path, Text: ce.Problem}}}
	}
	return err
}
