package sink

import (
	"crypto/md5" // by the platform's document
	"encoding/hex"
	"maps"
	"slices"
	"strings"
)

// Part is one field of a call with its value.
type Part struct{ Name, Value string }

// Fields are a record's fields as the gate takes them: sorted by name in byte
// order, each once, none of them empty.
type Fields []Part

// FieldsOf sorts fields and leaves the empty ones out.
func FieldsOf(fields map[string]string) Fields {
	out := make(Fields, 0, len(fields)+2)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if fields[name] != "" {
			out = append(out, Part{name, fields[name]})
		}
	}
	return out
}

// Get is the value of a field; "" where it is not there.
func (f Fields) Get(name string) string {
	for _, p := range f {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// Map gives the fields by name.
func (f Fields) Map() map[string]string {
	out := make(map[string]string, len(f))
	for _, p := range f {
		out[p.Name] = p.Value
	}
	return out
}

// with puts a part in its place.
func (f Fields) with(p Part) Fields {
	at, there := slices.BinarySearchFunc(f, p, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	if there {
		f[at].Value = p.Value
		return f
	}
	return slices.Insert(f, at, p)
}

// appendPlain appends the text that a signature is made of, see [Plain].
func (f Fields) appendPlain(b []byte) []byte {
	first := true
	for _, p := range f {
		if p.Name == FieldSign || p.Value == "" {
			continue
		}
		if !first {
			b = append(b, '&')
		}
		b = append(append(append(b, p.Name...), '='), p.Value...)
		first = false
	}
	return b
}

// sign is the upper-case hex MD5 of the plain text with the secret appended.
func (f Fields) sign(secret string) string {
	b := f.appendPlain(make([]byte, 0, 512))
	b = append(append(b, "&app_secret="...), secret...)
	sum := md5.Sum(b)
	var text [2 * md5.Size]byte
	hex.Encode(text[:], sum[:])
	for i, c := range text {
		if c >= 'a' {
			text[i] = c - 'a' + 'A'
		}
	}
	return string(text[:])
}

// Plain is the text a signature is made of, without the secret: every field
// but sign whose value is not empty, sorted by name in byte order, joined as
// name=value with &. Nothing is escaped.
func Plain(fields map[string]string) string { return string(FieldsOf(fields).appendPlain(nil)) }

// Sign is the upper-case hex MD5 of [Plain] with the secret appended.
func Sign(fields map[string]string, secret string) string { return FieldsOf(fields).sign(secret) }
