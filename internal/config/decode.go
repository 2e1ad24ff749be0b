package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decoder walks a YAML tree into structs. goccy/go-yaml's own strict decoder
// stops at the first mistake; this one goes on, so that an integrator sees
// every mistake of a file in one go.
//
// A struct field's tag is `yaml:"name,option"`, with the options
//
//	inline  the fields of an embedded struct stand beside the others
//	short   a bare scalar in the place of the struct sets this field
//	secret  name_file reads the value from a file
//	path    a relative path is relative to the config file
type decoder struct {
	dir      string
	env      func(string) (string, bool)
	problems []Problem
	places   map[string]place
	anchors  map[string]ast.Node
	depth    int // of nesting, aliases seen through: an alias may hold itself
}

// depthMost is more than any sensible file nests.
const depthMost = 50

// deeper reports whether one more level may be entered; leave must follow.
func (d *decoder) deeper(path string, at place) bool {
	d.depth++
	if d.depth == depthMost {
		d.report(path, at, "is nested too deeply; does an alias hold itself?")
	}
	return d.depth < depthMost
}

func (d *decoder) leave() { d.depth-- }

type place struct{ line, column int }

// startOf is where a node begins: a mapping's own token is its first colon.
func startOf(n ast.Node) place {
	if m, ok := n.(ast.MapNode); ok {
		if it := m.MapRange(); it.Next() {
			return placeOf(it.Key().GetToken())
		}
	}
	return placeOf(n.GetToken())
}

func (d *decoder) report(path string, at place, text string) {
	d.problems = append(d.problems, Problem{Path: path, Line: at.line, Column: at.column, Text: text})
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}

// parse decodes the one document of a file into v.
func (d *decoder) parse(text string, v any) {
	file, err := parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var se interface {
			GetToken() *token.Token
			GetMessage() string
		}
		if errors.As(err, &se) {
			d.report("", placeOf(se.GetToken()), "is not YAML here: "+se.GetMessage())
		} else {
			d.report("", place{1, 1}, "is not YAML: "+err.Error())
		}
		return
	}
	var docs []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			docs = append(docs, doc.Body)
		}
	}
	switch len(docs) {
	case 0:
		d.report("", place{1, 1}, "is empty")
	case 1:
		d.decode(docs[0], reflect.ValueOf(v).Elem(), "", "")
	default:
		d.report("", placeOf(docs[1].GetToken()), "holds a second YAML document; only one is read")
	}
}

// resolve sees through anchors, aliases and tags.
func (d *decoder) resolve(n ast.Node) ast.Node {
	for range depthMost {
		switch x := n.(type) {
		case *ast.AnchorNode:
			d.anchors[x.Name.String()] = x.Value
			n = x.Value
		case *ast.AliasNode:
			target, ok := d.anchors[x.Value.String()]
			if !ok {
				d.report("", placeOf(x.GetToken()), "is an alias of an anchor that is not there")
				return &ast.NullNode{Token: x.GetToken()}
			}
			n = target
		case *ast.TagNode:
			n = x.Value
		default:
			return n
		}
	}
	d.report("", placeOf(n.GetToken()), "is an alias that leads to itself")
	return &ast.NullNode{Token: n.GetToken()}
}

func (d *decoder) decode(n ast.Node, v reflect.Value, path, options string) {
	defer d.leave()
	if !d.deeper(path, startOf(n)) {
		return
	}
	n = d.resolve(n)
	at := startOf(n)
	if _, ok := d.places[path]; !ok {
		d.places[path] = at
	}
	if n.Type() == ast.NullType {
		return // a key without a value is as if it were not there
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), path, options)
	case reflect.Struct:
		d.decodeStruct(n, v, path)
	case reflect.Map:
		d.decodeMap(n, v, path)
	case reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			if _, scalar := scalarText(n); !scalar {
				d.report(path, at, "must be a list")
				return
			}
			// A list of one may be written without brackets.
			seq = &ast.SequenceNode{Values: []ast.Node{n}}
		}
		v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
		for i, item := range seq.Values {
			d.decode(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i), options)
		}
	default:
		d.decodeScalar(n, v, path, options)
	}
}

// entries lists the keys of a mapping, those merged by << after its own.
func (d *decoder) entries(m ast.MapNode, path string) []*ast.MappingValueNode {
	defer d.leave()
	if !d.deeper(path, d.places[path]) {
		return nil
	}
	var own, merged []*ast.MappingValueNode
	seen := map[string]bool{}
	for it := m.MapRange(); it.Next(); {
		kv := it.KeyValue()
		if kv.Key.Type() == ast.MergeKeyType {
			if base, ok := d.resolve(kv.Value).(ast.MapNode); ok {
				merged = append(merged, d.entries(base, path)...)
			} else {
				d.report(path, placeOf(kv.Key.GetToken()), "merges what is not a mapping")
			}
			continue
		}
		key := keyText(kv)
		if seen[key] {
			d.report(join(path, key), placeOf(kv.Key.GetToken()), "stands here a second time")
			continue
		}
		seen[key] = true
		own = append(own, kv)
	}
	for _, kv := range merged {
		if !seen[keyText(kv)] {
			seen[keyText(kv)] = true
			own = append(own, kv)
		}
	}
	return own
}

func keyText(kv *ast.MappingValueNode) string {
	if text, ok := scalarText(kv.Key); ok {
		return text
	}
	return kv.Key.GetToken().Value
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// field is a struct field that a key may set.
type field struct {
	value   reflect.Value
	options string
}

func fieldsOf(v reflect.Value) (fields map[string]field, short string) {
	fields = map[string]field{}
	for i := range v.NumField() {
		tag, ok := v.Type().Field(i).Tag.Lookup("yaml")
		if !ok {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if options == "inline" {
			inner, _ := fieldsOf(v.Field(i))
			maps.Copy(fields, inner)
			continue
		}
		if options == "short" {
			short = name
		}
		fields[name] = field{v.Field(i), options}
	}
	return fields, short
}

func (d *decoder) decodeStruct(n ast.Node, v reflect.Value, path string) {
	fields, short := fieldsOf(v)
	m, ok := n.(ast.MapNode)
	if !ok {
		if _, scalar := scalarText(n); scalar && short != "" {
			d.decodeScalar(n, fields[short].value, path, "")
			return
		}
		d.report(path, startOf(n), "must be a mapping of keys to values")
		return
	}
	set := map[string]bool{}
	for _, kv := range d.entries(m, path) {
		name := keyText(kv)
		at := placeOf(kv.Key.GetToken())
		full := join(path, name)
		d.places[full] = at
		f, known := fields[name]
		base, twin := strings.CutSuffix(name, "_file")
		switch {
		case known:
			set[name] = true
			d.decode(kv.Value, f.value, full, f.options)
		case twin && fields[base].options == "secret":
			d.decodeFile(kv.Value, fields[base].value, full)
			if set[base] {
				d.report(full, at, "cannot stand beside "+base+"; keep one of them")
			}
			set[base] = true
		default:
			names := make([]string, 0, len(fields))
			for k := range fields {
				names = append(names, k)
			}
			slices.Sort(names)
			d.report(full, at, "is not a known key; here may stand "+strings.Join(names, ", "))
		}
	}
}

func (d *decoder) decodeMap(n ast.Node, v reflect.Value, path string) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.report(path, startOf(n), "must be a mapping of keys to values")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, kv := range d.entries(m, path) {
		name := keyText(kv)
		full := join(path, name)
		d.places[full] = placeOf(kv.Key.GetToken())
		item := reflect.New(v.Type().Elem()).Elem()
		d.decode(kv.Value, item, full, "")
		v.SetMapIndex(reflect.ValueOf(name), item)
	}
}

// scalarText gives a scalar as it was written, quotes taken off.
func scalarText(n ast.Node) (string, bool) {
	switch x := n.(type) {
	case *ast.LiteralNode:
		return x.Value.Value, true
	case *ast.StringNode:
		return x.Value, true
	case ast.ScalarNode:
		return x.GetToken().Value, true
	}
	return "", false
}

// expand replaces ${NAME} by the environment's value.
func (d *decoder) expand(text, path string, at place) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			d.report(path, at, "opens ${ and does not close it")
			return b.String()
		}
		value, ok := d.env(name)
		if !ok {
			d.report(path, at, fmt.Sprintf("takes the environment variable %s, which is not set", name))
		}
		b.WriteString(value)
		text = after
	}
}

func (d *decoder) decodeFile(n ast.Node, v reflect.Value, path string) {
	var name string
	d.decode(n, reflect.ValueOf(&name).Elem(), path, "path")
	if name == "" {
		return
	}
	at := placeOf(n.GetToken())
	content, err := os.ReadFile(name)
	if err != nil {
		d.report(path, at, "cannot be read: "+err.Error())
		return
	}
	value := strings.TrimRight(strings.TrimPrefix(string(content), "\ufeff"), "\r\n")
	if value == "" {
		d.report(path, at, "names an empty file: "+name)
	}
	v.SetString(value)
}

func (d *decoder) decodeScalar(n ast.Node, v reflect.Value, path, options string) {
	at := placeOf(n.GetToken())
	text, ok := scalarText(n)
	if !ok {
		d.report(path, at, "must be a single value")
		return
	}
	before := len(d.problems)
	text = d.expand(text, path, at)
	if len(d.problems) > before {
		return
	}
	bad := func(what string) { d.report(path, at, fmt.Sprintf("%q is not %s", text, what)) }
	switch x := v.Addr().Interface().(type) {
	case *time.Duration:
		value, err := time.ParseDuration(text)
		if err != nil {
			bad("a duration such as 10s, 5m or 24h")
		}
		*x = value
	case *bool:
		value, err := strconv.ParseBool(text)
		if err != nil {
			bad("true or false")
		}
		*x = value
	case *int:
		value, err := strconv.Atoi(text)
		if err != nil {
			bad("a whole number")
		}
		*x = value
	case *float64:
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			bad("a number")
		}
		*x = value
	default:
		if options == "path" {
			text = d.relative(text)
		}
		v.SetString(text)
	}
}

func (d *decoder) relative(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(d.dir, path)
}
