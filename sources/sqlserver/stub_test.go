package sqlserver_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
)

// stub speaks as much of TDS 7.4 (MS-TDS) as a client needs to log in and to run
// statements, so that the real driver sends and decodes what the tests look at.
// What a statement means, and whether SQL Server would take it, it cannot tell.
type stub struct {
	listener net.Listener
	// answer gives the tokens that answer a statement; nil: it never ends.
	answer func(statement) []byte
	tls    *tls.Config // nil: the server has no encryption
	silent bool        // it accepts connections, and says nothing

	mu    sync.Mutex
	conns []net.Conn
	seen  []statement
}

// statement is what a client asked to run.
type statement struct {
	sql    string
	params string // their declarations
	args   []any
	reset  bool // the session is to be reset first
}

func newStub(t testing.TB, answer func(statement) []byte) *stub {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &stub{listener: listener, answer: answer}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			serving.Go(func() {
				defer conn.Close()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close() // a test may have closed it
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		serving.Wait()
	})
	return s
}

func (s *stub) dsn(options string) string {
	return fmt.Sprintf("sqlserver://reader:s3cret@%s?database=lot%s", s.listener.Addr(), options)
}

// statements gives what was asked since the last call, without the preparing of
// connections.
func (s *stub) statements() (out []statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.seen {
		if !q.reset {
			out = append(out, q)
		}
	}
	s.seen = nil
	return out
}

// connected is how many connections there have been.
func (s *stub) connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

const (
	packBatch, packRPC, packReply, packAttention, packLogin, packPrelogin = 1, 3, 4, 6, 16, 18
	endOfMessage, resetConnection                                         = 1, 8
)

func (s *stub) serve(raw net.Conn) {
	var conn io.ReadWriter = raw
	for {
		kind, status, body, err := readMessage(conn)
		if err != nil || s.silent {
			if s.silent {
				_, _ = io.Copy(io.Discard, raw)
			}
			return
		}
		var reply []byte
		switch kind {
		case packPrelogin:
			encryption := byte(2) // not supported, or the client wants none
			if s.tls != nil && wantsTLS(body) {
				encryption = 1
			}
			// One option: ENCRYPTION, at offset 6, one byte; then the end, and the byte.
			writeMessage(raw, []byte{1, 0, 6, 0, 1, 0xff, encryption})
			if encryption == 1 {
				if conn, err = s.handshake(raw); err != nil {
					return
				}
			}
			continue
		case packLogin:
			name := ucs2("Microsoft SQL Server")
			ack := append([]byte{1, 0x74, 0, 0, 4, byte(len(name) / 2)}, name...)
			reply = token(0xad, append(ack, 10, 50, 0x17, 0x70))
			reply = append(reply, done(0)...)
		case packAttention:
			reply = done(0x20)
		case packBatch, packRPC:
			q := statement{reset: status&resetConnection != 0}
			body = body[binary.LittleEndian.Uint32(body):] // ALL_HEADERS
			if kind == packBatch {
				q.sql = fromUCS2(body)
			} else {
				q.sql, q.params, q.args = readRPC(body)
			}
			s.mu.Lock()
			s.seen = append(s.seen, q)
			s.mu.Unlock()
			if reply = done(0); !q.reset {
				if reply = s.answer(q); reply == nil {
					continue // until the client gives up
				}
			}
		}
		writeMessage(conn, reply)
	}
}

// wantsTLS reads the ENCRYPTION option of a PRELOGIN: 2 is "not supported".
func wantsTLS(prelogin []byte) bool {
	for option := prelogin; option[0] != 0xff; option = option[5:] {
		if option[0] == 1 {
			return prelogin[binary.BigEndian.Uint16(option[1:])] != 2
		}
	}
	return false
}

// handshake runs TLS inside of TDS packets, as the protocol has it up to version
// 7.4, and bare from then on.
func (s *stub) handshake(raw net.Conn) (io.ReadWriter, error) {
	wrapped := &preloginConn{Conn: raw}
	conn := tls.Server(wrapped, s.tls)
	err := conn.Handshake()
	wrapped.bare = true
	return conn, err
}

type preloginConn struct {
	net.Conn
	bare bool
	rest bytes.Buffer
}

func (c *preloginConn) Read(p []byte) (int, error) {
	if c.rest.Len() > 0 {
		return c.rest.Read(p)
	}
	if c.bare {
		return c.Conn.Read(p)
	}
	_, _, body, err := readMessage(c.Conn)
	if err != nil {
		return 0, err
	}
	c.rest.Write(body)
	return c.rest.Read(p)
}

func (c *preloginConn) Write(p []byte) (int, error) {
	if c.bare {
		return c.Conn.Write(p)
	}
	writeMessage(c.Conn, p)
	return len(p), nil
}

func readMessage(r io.Reader) (kind, status byte, body []byte, err error) {
	for {
		var header [8]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return 0, 0, nil, err
		}
		packet := make([]byte, binary.BigEndian.Uint16(header[2:])-8)
		if _, err := io.ReadFull(r, packet); err != nil {
			return 0, 0, nil, err
		}
		kind, status, body = header[0], status|header[1], append(body, packet...)
		if header[1]&endOfMessage != 0 {
			return kind, status, body, nil
		}
	}
}

func writeMessage(w io.Writer, body []byte) {
	const most = 4096 - 8
	for {
		n, last := min(len(body), most), byte(0)
		if n == len(body) {
			last = endOfMessage
		}
		header := binary.BigEndian.AppendUint16([]byte{packReply, last}, uint16(n+8))
		if _, err := w.Write(append(append(header, 0, 0, 1, 0), body[:n]...)); err != nil || last != 0 {
			return
		}
		body = body[n:]
	}
}

// readRPC takes apart a call of sp_executesql.
func readRPC(b []byte) (sql, params string, args []any) {
	b = b[6:] // 0xffff, the procedure's number, flags
	var values []any
	for len(b) > 0 {
		b = b[1+2*int(b[0])+1:] // name, status
		typ := b[0]
		long := binary.LittleEndian.Uint16(b[1:]) == 0xffff // (max)
		switch typ {
		case 0x26, 0x6d: // INTN, FLTN
			n := int(b[2])
			values = append(values, number(typ, b[3:3+n]))
			b = b[3+n:]
		case 0xe7, 0xa5: // NVARCHAR, BIGVARBINARY
			if b = b[3:]; typ == 0xe7 {
				b = b[5:] // collation
			}
			var data []byte
			if long {
				for b = b[8:]; ; {
					n := int(binary.LittleEndian.Uint32(b))
					data, b = append(data, b[4:4+n]...), b[4+n:]
					if n == 0 {
						break
					}
				}
			} else {
				n := int(binary.LittleEndian.Uint16(b))
				data, b = b[2:2+n], b[2+n:]
			}
			if typ == 0xe7 {
				values = append(values, fromUCS2(data))
			} else {
				values = append(values, data)
			}
		default:
			panic(fmt.Sprintf("a parameter of type %#x", typ))
		}
	}
	return values[0].(string), values[1].(string), values[2:]
}

func number(typ byte, b []byte) any {
	bits := binary.LittleEndian.Uint64(b)
	if typ == 0x6d {
		return math.Float64frombits(bits)
	}
	return int64(bits)
}

func ucs2(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func fromUCS2(b []byte) string {
	var units []uint16
	for ; len(b) > 1; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}

func token(kind byte, body []byte) []byte {
	return append(binary.LittleEndian.AppendUint16([]byte{kind}, uint16(len(body))), body...)
}

func done(status uint16) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{0xfd}, status)
	return append(b, make([]byte, 10)...)
}

// failure is an ERROR of a number, and the end.
func failure(number int32, message string) []byte {
	return append(errorToken(number, message), done(2)...)
}

// fatal is the same of a server that breaks off.
func fatal(number int32, message string) []byte {
	return append(errorToken(number, message), done(2|0x100)...)
}

func errorToken(number int32, message string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(number))
	b = binary.LittleEndian.AppendUint16(append(b, 1, 16), uint16(len(ucs2(message))/2))
	b = append(append(b, ucs2(message)...), 0, 0, 1, 0, 0, 0)
	return token(0xaa, b)
}

// cell is a value as it goes over the wire, with the TYPE_INFO of its column.
type cell struct{ info, data []byte }

// table is a result: COLMETADATA of the first row's types, the rows, the end. The
// first row is left out where it only says the types.
func table(names []string, onlyTypes bool, rows ...[]cell) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{0x81}, uint16(len(names)))
	for i, name := range names {
		b = append(append(b, 0, 0, 0, 0, 1, 0), rows[0][i].info...)
		b = append(append(b, byte(len(ucs2(name))/2)), ucs2(name)...)
	}
	if onlyTypes {
		rows = rows[1:]
	}
	for _, row := range rows {
		b = append(b, 0xd1)
		for _, c := range row {
			b = append(b, c.data...)
		}
	}
	return append(b, done(0x10)...)
}

// byteLen is a value of a type whose length is one byte; without data it is NULL.
func byteLen(info []byte, data ...byte) cell {
	return cell{info, append([]byte{byte(len(data))}, data...)}
}

func shortLen(info, data []byte) cell {
	return cell{info, append(binary.LittleEndian.AppendUint16(nil, uint16(len(data))), data...)}
}

func bigint(n int64) cell {
	return byteLen([]byte{0x26, 8}, binary.LittleEndian.AppendUint64(nil, uint64(n))...)
}

func nvarchar(s string) cell { return shortLen([]byte{0xe7, 0x40, 0x1f, 4, 8, 0, 0, 0}, ucs2(s)) }

func varbinary(b []byte) cell { return shortLen([]byte{0xa5, 0x40, 0x1f}, b) }

func bit(v bool) cell {
	if v {
		return byteLen([]byte{0x68, 1}, 1)
	}
	return byteLen([]byte{0x68, 1}, 0)
}
