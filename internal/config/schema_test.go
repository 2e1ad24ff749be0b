package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"parkbridge/mapping"
	"parkbridge/sink"
)

var update = flag.Bool("update", false, "write config.schema.json anew")

const root = "../../"

// choices are the values of keys that take a few only. TestChoices holds them to
// what the loader says.
var choices = map[string][]string{
	"sources.Config.driver":      drivenBy(),
	"ledger.Config.driver":       {"sqlite"},
	"sources.Config.wrap":        {"year"},
	"capture.Config.on_change":   {"ignore", "resend"},
	"capture.Config.null_cursor": {"wait", "include"},
	"mapping.Rule.transform":     {"digits", "halfwidth", "lower", "nospace", "trim", "upper"},
	"mapping.Rule.invalid":       {"error", "omit"},
	"config.Log.level":           {"debug", "info", "warn", "error"},
	"config.Log.format":          {"text", "json"},
}

// examples are values that an editor may propose, among others.
var examples = map[string][]string{
	"sources.Config.start":          {"latest", "earliest"},
	"config.Source.timezone":        {"Asia/Shanghai"},
	"config.Source.charset":         charsetExamples,
	"mapping.Rule.charset":          charsetExamples,
	"mapping.Rule.timezone":         {"Asia/Shanghai", "UTC"},
	"mapping.Rule.format":           {"yyyy-MM-dd HH:mm:ss", "yyyyMMddHHmmss", "unix", "unix_ms", "dotnet_ticks", "ole", "excel", "julian"},
	"capture.Config.cursor_format":  {"yyyyMMddHHmm", "unix", "unix_ms"},
	"config.Source.schedule":        {"*/1 * * * *", "@every 30s"},
	"capture.Reconcile.schedule":    {"30 3 * * *"},
	"sink.Config.unordered_serials": {"0"},
}

var charsetExamples = []string{"utf-8", "gbk", "gb18030", "gb2312", "big5", "latin-1"}

// drivenBy lists the engines: each folder of sources is a driver.
func drivenBy() (names []string) {
	entries, err := os.ReadDir(root + "sources")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "testdata" {
			names = append(names, e.Name())
		}
	}
	return names
}

// config.schema.json is made of the Go types that the loader reads, with their
// comments. `make schema` writes it anew.
func TestSchemaIsFresh(t *testing.T) {
	t.Parallel()
	want, err := makeSchema()
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile(root+"config.schema.json", want, 0o644))
	}
	have, err := os.ReadFile(root + "config.schema.json")
	require.NoError(t, err)
	require.Equal(t, string(want), strings.ReplaceAll(string(have), "\r\n", "\n"), "run: make schema")
}

// schema gathers definitions of struct types, by package and name.
type schema struct {
	defs     map[string]any
	comments map[string]string // of "package.Type.Field"
	problems []string
}

type node = map[string]any

func makeSchema() ([]byte, error) {
	s := &schema{defs: node{}, comments: map[string]string{}}
	for _, dir := range []string{"internal/config", "internal/capture", "internal/ledger", "mapping", "sink", "sources"} {
		if err := s.read(root + dir); err != nil {
			return nil, err
		}
	}
	top := node{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "The configuration of parkbridge",
		"$ref":    s.of(reflect.TypeFor[Config](), "")["$ref"],
		"$defs":   s.defs,
	}
	if s.problems != nil {
		return nil, fmt.Errorf("%s", strings.Join(s.problems, "\n"))
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(top)
	return out.Bytes(), err
}

// read gathers the comments of a package's struct fields.
func (s *schema) read(dir string) error {
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		return err
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if typ, ok := n.(*ast.TypeSpec); ok {
				if body, ok := typ.Type.(*ast.StructType); ok {
					s.comment(file.Name.Name+"."+typ.Name.Name, body)
				}
			}
			return true
		})
	}
	return nil
}

func (s *schema) comment(typ string, body *ast.StructType) {
	for _, f := range body.Fields.List {
		text := f.Doc.Text()
		if text == "" {
			text = f.Comment.Text()
		}
		for _, name := range f.Names {
			s.comments[typ+"."+name.Name] = strings.Join(strings.Fields(text), " ")
		}
	}
}

// describe is a field's comment in the words of the file: the names of fields
// become keys, nil is a key left out, and links lose their brackets.
func (s *schema) describe(owner reflect.Type, f reflect.StructField) string {
	text := s.comments[owner.String()+"."+f.Name]
	if text == "" {
		s.problems = append(s.problems, owner.String()+"."+f.Name+" has a key and no comment")
	}
	for field := range owner.Fields() {
		if key, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); key != "" {
			text = regexp.MustCompile(`\b`+field.Name+`\b`).ReplaceAllString(text, key)
		}
	}
	text = regexp.MustCompile(`\bnil\b`).ReplaceAllString(text, "leaving it out")
	return strings.NewReplacer("[", "", "]", "").Replace(text)
}

const reference = `\$\{[^}]*\}` // to the environment, which may stand in any value

// anyText is what the loader takes as text: scalars stay as they were written.
func anyText() node { return node{"type": []string{"string", "number", "boolean", "null"}} }

// of is the schema of a value; name is the key that a list of choices is under.
func (s *schema) of(t reflect.Type, name string) node {
	if t == reflect.TypeFor[time.Duration]() {
		return node{
			"type": []string{"string", "integer", "null"}, "minimum": 0, "maximum": 0, // a number has no unit, and 0 needs none
			"pattern": `^[+-]?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|^0$|` + reference,
		}
	}
	if t == reflect.TypeFor[mapping.Rules]() {
		properties := node{}
		for _, f := range sink.Contract() {
			properties[f.Name] = s.field(f)
		}
		return node{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	}
	number := func(typ, pattern string) node {
		return node{"type": []string{typ, "string", "null"}, "pattern": "^" + pattern + "$|" + reference}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem(), name)
	case reflect.Struct:
		return s.object(t)
	case reflect.Map:
		return node{"type": []string{"object", "null"}, "additionalProperties": s.of(t.Elem(), "")}
	case reflect.Slice:
		item := s.of(t.Elem(), name)
		list := node{"type": []string{"array", "null"}, "items": item}
		if t.Elem().Kind() == reflect.Struct {
			return list
		}
		return node{"anyOf": []node{item, list}} // a list of one needs no brackets
	case reflect.Bool:
		return number("boolean", "(true|false)")
	case reflect.Int:
		return number("integer", "[+-]?[0-9]+")
	case reflect.Float64:
		return number("number", `[+-]?[0-9]+(\.[0-9]*)?`)
	case reflect.String:
		if values := choices[name]; values != nil {
			return node{"anyOf": []node{{"enum": values}, {"type": "string", "pattern": reference}, {"type": "null"}}}
		}
		out := anyText()
		if values := examples[name]; values != nil {
			out["examples"] = values
		}
		return out
	default:
		s.problems = append(s.problems, name+" has the type "+t.String()+", which has no schema")
		return nil
	}
}

// field is the rule of one field of the gate.
func (s *schema) field(f sink.Field) node {
	out := s.of(reflect.TypeFor[mapping.Rule](), "")
	what := map[string]string{sink.KindText: "a text", sink.KindTime: "a time", sink.KindEnum: "one of " + strings.Join(f.Enum, ", ")}[f.Kind]
	if f.Required {
		what += ", required"
	}
	return node{"$ref": out["$ref"], "description": f.Name + " of the gate: " + what + "."}
}

// object is a struct, defined once.
func (s *schema) object(t reflect.Type) node {
	name := t.String()
	if _, ok := s.defs[name]; !ok {
		def := node{"type": []string{"object", "null"}, "additionalProperties": false}
		s.defs[name] = def
		properties := node{}
		if short := s.properties(t, properties); short {
			def["type"] = []string{"object", "string", "number", "boolean", "null"}
		}
		def["properties"] = properties
	}
	return node{"$ref": "#/$defs/" + name}
}

// properties adds a struct's keys; short tells that a bare scalar may stand in
// the struct's place.
func (s *schema) properties(t reflect.Type, properties node) (short bool) {
	for f := range t.Fields() {
		tag, ok := f.Tag.Lookup("yaml")
		if !ok {
			continue
		}
		key, options, _ := strings.Cut(tag, ",")
		if options == "inline" {
			s.properties(f.Type, properties)
			continue
		}
		short = short || options == "short"
		property := s.of(f.Type, t.String()+"."+key)
		property["description"] = s.describe(t, f)
		properties[key] = property
		if options == "secret" {
			properties[key+"_file"] = node{"type": []string{"string", "null"}, "description": "A file that holds " + key + ", relative to this one; in the place of " + key + "."}
		}
	}
	return short
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	s, err := c.Compile(root + "config.schema.json")
	require.NoError(t, err)
	return s
}

// validate holds YAML to the schema as an editor does.
func validate(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var content any
	require.NoError(t, yaml.Unmarshal([]byte(text), &content))
	raw, err := json.Marshal(content)
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	return s.Validate(document)
}

// What the loader takes, the schema takes: the example, the demo's and every
// configuration that a page shows.
func TestSchemaTakesWhatIsRight(t *testing.T) {
	t.Parallel()
	s := compiled(t)
	example, err := os.ReadFile(root + "config.example.yaml")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(example), "# yaml-language-server: $schema=./config.schema.json\n"), "the example names its schema")
	demo, err := os.ReadFile(root + "cmd/parkbridge/demo.yaml")
	require.NoError(t, err)
	texts := map[string]string{
		"the example": string(example), "the demo": string(demo), "good": good, "empty keys": "ledger:\nlog: { file: }\n",
		"from the environment": "sink: { concurrency: '${N}', timeout: '${T}' }\nlog: { level: '${LEVEL}' }\n",
		"odd forms":            "ledger: { retention: 0 }\nsink: { concurrency: '8', rate_limit: 1.5, unordered_serials: 0 }\nsources:\n  - key: [a, b]\n    page_size: 10\n    mapping: { plate: { const: 01, trim: false, format: unix }, reason: 1 }\n",
	}
	pages, err := filepath.Glob(root + "docs/*.md")
	require.NoError(t, err)
	shown := 0
	for _, page := range append(pages, root+"README.md", root+"README.zh-CN.md") {
		raw, err := os.ReadFile(page)
		require.NoError(t, err)
		for i, block := range regexp.MustCompile("(?s)\n```yaml\n(.*?)\n```").FindAllStringSubmatch(strings.ReplaceAll(string(raw), "\r\n", "\n"), -1) {
			if strings.Contains(block[1], "sources:") {
				texts[fmt.Sprintf("%s, block %d", page, i+1)] = block[1]
				shown++
			}
		}
	}
	require.GreaterOrEqual(t, shown, 2, "each README shows one")
	for name, text := range texts {
		require.NoError(t, validate(t, s, strings.ReplaceAll(text, "\r\n", "\n")), name)
	}
}

// What the loader refuses for its form, the schema refuses.
func TestSchemaRefusesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := compiled(t)
	for _, wrong := range []string{
		"sorces: []",
		"sources: {}",
		"sources: north",
		"sink: https://x",
		"sink: { colour: red }",
		"sink: { timeout: 10 }",
		"sink: { timeout: soon }",
		"sink: { timeout_file: x }",
		"sink: { concurrency: many }",
		"sink: { concurrency: 1.5 }",
		"sink: { concurrency: [8] }",
		"sink: { rate_limit: fast }",
		"sink: { app_secret: { a: b } }",
		"sink: { unordered_serials: { a: b } }",
		"ledger: { driver: oracle }",
		"log: { level: loud }",
		"log: { file: [a] }",
		"sources: [{ driver: mysq }]",
		"sources: [{ charset: [a] }]",
		"sources: [{ page_size: many }]",
		"sources: [{ max_future: tomorrow }]",
		"sources: [{ ready: [a] }]",
		"sources: [{ ready_timeout: 7d }]",
		"sources: [{ reconcile: { window: 1 day } }]",
		"sources: [{ reconcile: hourly }]",
		"sources: [{ on_change: send }]",
		"sources: [{ mapping: [plate] }]",
		"sources: [{ mapping: { plat: x } }]",
		"sources: [{ mapping: { plate: [x] } }]",
		"sources: [{ mapping: { plate: { colum: x } } }]",
		"sources: [{ mapping: { plate: { column: x, transform: [uper] } } }]",
		"sources: [{ mapping: { plate: { column: x, trim: perhaps } } }]",
		"sources: [{ mapping: { plate: { column: x, values: [a] } } }]",
		"sources: [{ mapping: { plate: { column: x, values: { a: [b] } } } }]",
		"sources: [{ mapping: { leave_time: { column: x, invalid: skip } } }]",
	} {
		require.Error(t, validate(t, s, wrong), wrong)
		_, err := load(t, wrong+"\n")
		require.Error(t, err, wrong)
	}
}

// The choices that the schema gives are those that the loader names when it is
// given another.
func TestChoices(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"ledger.Config.driver":       "ledger: { driver: nonesuch }",
		"sources.Config.wrap":        "sources: [{ wrap: nonesuch }]",
		"capture.Config.on_change":   "sources: [{ on_change: nonesuch }]",
		"capture.Config.null_cursor": "sources: [{ null_cursor: nonesuch }]",
		"mapping.Rule.transform":     "sources: [{ mapping: { plate: { column: x, transform: nonesuch } } }]",
		"mapping.Rule.invalid":       "sources: [{ mapping: { leave_time: { column: x, invalid: nonesuch } } }]",
		"config.Log.level":           "log: { level: nonesuch }",
		"config.Log.format":          "log: { format: nonesuch }",
	} {
		key := name[strings.LastIndex(name, ".")+1:]
		_, err := load(t, text+"\n")
		var named []string
		for _, line := range lines(err) {
			if !strings.Contains(line, "."+key+" ") {
				continue
			}
			for _, lead := range []string{"one of ", "must be ", "kept in "} {
				if _, list, ok := strings.Cut(line, lead); ok {
					named = regexp.MustCompile(`, | or `).Split(list, -1)
				}
			}
		}
		slices.Sort(named)
		want := slices.Sorted(slices.Values(choices[name]))
		require.Equal(t, want, named, name)
	}
	require.Len(t, choices, 9, "each is in the table above, but for the drivers, which are folders")
}
