package sink

import (
	"maps"
	"slices"
	"strings"
)

// secretMark is how the platform shows the secret in the hint of a signature
// that did not verify.
const secretMark = "app_secret=***"

// Difference is one field that the platform saw otherwise than it was sent.
type Difference struct {
	Field string
	Sent  string // "" where it was not sent
	Seen  string // "" where the platform did not see it
}

// Mangled reports that the platform saw question marks where we sent others:
// it decoded the text in the wrong charset.
func (d Difference) Mangled() bool {
	return strings.Count(d.Seen, "?")+strings.Count(d.Seen, "\uFFFD") > strings.Count(d.Sent, "?")+strings.Count(d.Sent, "\uFFFD")
}

// Compare names the fields in which the platform's plain text differs from
// ours. hint is the platform's; ok is false where it is no such text. No
// difference at all means that the secrets differ.
func Compare(fields map[string]string, hint string) (diffs []Difference, ok bool) {
	plain, found := strings.CutSuffix(strings.TrimSpace(hint), secretMark)
	if !found {
		if at := strings.LastIndex(hint, "&"+secretMark); at >= 0 {
			plain, found = hint[:at], true
		}
	}
	if !found {
		return nil, false
	}
	seen := splitPlain(strings.TrimSuffix(plain, "&"), fields)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name != FieldSign && fields[name] != seen[name] {
			diffs = append(diffs, Difference{Field: name, Sent: fields[name], Seen: seen[name]})
		}
		delete(seen, name)
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		diffs = append(diffs, Difference{Field: name, Seen: seen[name]})
	}
	return diffs, true
}

// splitPlain takes a plain text apart. A value may itself hold & and =, so a
// new field begins only at a name that we sent or that the contract knows, and
// that sorts after the last.
func splitPlain(plain string, sent map[string]string) map[string]string {
	known := map[string]bool{FieldAppID: true}
	for _, f := range Contract() {
		known[f.Name] = true
	}
	for name := range sent {
		known[name] = true
	}
	out := map[string]string{}
	last := ""
	for piece := range strings.SplitSeq(plain, "&") {
		name, value, cut := strings.Cut(piece, "=")
		switch {
		case cut && known[name] && name > last: // names come in order
			out[name], last = value, name
		case last != "":
			out[last] += "&" + piece
		case cut:
			out[name], last = value, name
		}
	}
	return out
}
