package bridge

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"parkbridge/sink"
)

// Fields read from the ledger are those that JSON says, however they are written.
func FuzzDecodeFields(f *testing.F) {
	for _, s := range []string{
		`{"a":"1","b":"粤B12345"}`, `{}`, `{"b":"1","a":"2"}`, `{"a":"1","a":"2"}`, `{"a":"x\"y"}`, `{"a":"","b":"1"}`, `{"a":1}`, `{"a":"1",}`,
		`{"a":"1"} `, ` {"a":"1"}`, `{"a":"1"}}`, `{"a":"\u00e9"}`, "{\"a\":\"\xff\"}", "{\"a\":\"\x01\"}", "{\"a\":\"\x7f\u0085\"}", `{"a"":"1"}`, `[]`, `null`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want map[string]string
		wrong := json.Unmarshal(b, &want)
		got, err := decodeFields(string(b))
		require.Equal(t, wrong == nil, err == nil)
		if wrong == nil {
			require.Equal(t, sink.FieldsOf(want), append(make(sink.Fields, 0, 2), got...))
		}
	})
}
