package sink

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// An answer that is read the short way is what JSON says it is.
func FuzzPlainAnswer(f *testing.F) {
	for _, s := range []string{
		`{"code":"1001","message":"OK","hint":null,"seqno":"abc"}`, `{"code":1001,"message":"OK"}`, `{"code":"1001"}`, `{"code":01}`, `{"code":0}`, `{"code":-1}`,
		`{"code":1.5}`, `{"code":1e3}`, `{"code":"10\"01"}`, `{"code":"1001",}`, `{"code":"1001"}}`, `{"Code":"1001"}`, `{"code":"1001","code":"400"}`, `{"code":null}`,
		`{"code":"1001" }`, `{ "code":"1001"}`, `{"code":}`, `{"code":"`, `{"code":"1001","more":{"a":1}}`, `{}`, `null`, `[]`, "{\"code\":\"\xff\"}", "{\"code\":\"\x01\"}", `{"code":" 400 "}`,
		`{"code":nullx}`, `{"code":"1"2}`, `{"hint":"签名","code":"401"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := plainAnswer(b)
		if !ok {
			return // the library reads it
		}
		var want body
		require.NoError(t, json.Unmarshal(b, &want))
		require.Equal(t, want, got)
	})
}

// The platform's own answers are read the short way.
func TestPlainAnswer(t *testing.T) {
	t.Parallel()
	got, ok := plainAnswer([]byte(`{"code":"1001","message":"成功","hint":null,"seqno":"abc6c253b93cc940"}`))
	require.True(t, ok)
	require.Equal(t, body{Code: "1001", Message: "成功", SeqNo: "abc6c253b93cc940"}, got)
}
