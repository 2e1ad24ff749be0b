package sink

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Outcome is what an answer of the gate means for the record.
type Outcome uint8

// The outcomes, after the platform's document.
const (
	// Delivered: the platform has the record (codes 1001, 1000, 200; a
	// repeated flow_no is accepted and ignored there).
	Delivered Outcome = iota + 1
	// Rejected: code 400, a bad parameter of this record.
	Rejected
	// Refused: 401 or 403, or a success code whose hint shows that the
	// signature did not verify. Whether the record or the set-up is at fault
	// only another record can tell.
	Refused
	// Retry: the platform's or the network's fault; nothing is known about
	// the record.
	Retry
)

func (o Outcome) String() string {
	return [...]string{"", "delivered", "rejected", "refused", "retry"}[o]
}

// Reply is the platform's answer to one record, or what stood in its place.
type Reply struct {
	Outcome Outcome
	// Code is the platform's code, from the body or, where that has none, the
	// HTTP status; "" where no answer came.
	Code       string
	Message    string // for people; the transport's error where no answer came
	Hint       string
	SeqNo      string // the platform's log number
	HTTPStatus int    // 0 where no answer came
	// RetryAfter is how long the platform asked to be left alone; 0 if it did not.
	RetryAfter time.Duration
	// Differences names the fields that the platform saw otherwise, where a
	// hint shows it (see [Compare]); Compared tells that one did.
	Differences []Difference
	Compared    bool
	// Unsigned tells that the call was refused and had no signature, for no
	// app_secret is set.
	Unsigned bool
	// Remark tells that the record was accepted with a hint of another kind.
	Remark bool
}

// maxRetryAfter bounds what a Retry-After may ask for.
const maxRetryAfter = time.Hour

// readReply judges an answer. The body's code alone decides, text or number;
// the HTTP status counts only where no code can be read.
func readReply(status int, header http.Header, body []byte, now time.Time) Reply {
	var r struct {
		Code    scalar `json:"code"`
		Message scalar `json:"message"`
		Hint    scalar `json:"hint"`
		SeqNo   scalar `json:"seqno"`
	}
	reply := Reply{HTTPStatus: status}
	body = bytes.TrimPrefix(bytes.TrimSpace(body), []byte("\xef\xbb\xbf"))
	err := json.Unmarshal(body, &r)
	if err == nil {
		reply.Code, reply.Message, reply.Hint, reply.SeqNo = string(r.Code), string(r.Message), string(r.Hint), string(r.SeqNo)
	}
	switch {
	case reply.Code != "":
		reply.Outcome = judge(reply.Code, reply.Hint)
	case status >= 200 && status < 400:
		reply.Outcome, reply.Code = Retry, strconv.Itoa(status)
		if status >= 300 {
			reply.Message = fmt.Sprintf("redirected to %s, which is not followed: a captive portal?", hostOf(header.Get("Location")))
		} else {
			reply.Message = "the answer is not the platform's JSON: " + excerpt(body)
		}
	default:
		reply.Code = strconv.Itoa(status)
		reply.Outcome = judge(reply.Code, "")
		if reply.Message == "" {
			reply.Message = fmt.Sprintf("HTTP %d without the platform's JSON: %s", status, excerpt(body))
		}
	}
	if reply.Outcome == Delivered && reply.Hint != "" {
		reply.Remark = true
	}
	if reply.Outcome == Retry {
		reply.RetryAfter = retryAfter(header.Get("Retry-After"), now)
	}
	return reply
}

func judge(code, hint string) Outcome {
	switch code {
	case "1001", "1000", "200":
		if strings.Contains(hint, secretMark) {
			return Refused
		}
		return Delivered
	case "400":
		return Rejected
	case "401", "403":
		return Refused
	}
	return Retry
}

// scalar is a JSON string or number as text; anything else is "".
type scalar string

// UnmarshalJSON never fails.
func (s *scalar) UnmarshalJSON(raw []byte) error {
	switch c := raw[0]; {
	case c == '"':
		var text string
		if inside := raw[1 : len(raw)-1]; utf8.Valid(inside) && bytes.IndexByte(inside, '\\') < 0 {
			text = string(inside) // as it is, for it is valid JSON
		} else if err := json.Unmarshal(raw, &text); err != nil {
			return err // cannot be: the decoder has checked it
		}
		*s = scalar(strings.TrimSpace(text))
	case c == '-' || (c >= '0' && c <= '9'):
		*s = scalar(raw)
	default:
		*s = ""
	}
	return nil
}

func retryAfter(value string, now time.Time) time.Duration {
	var d time.Duration
	if secs, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
		d = time.Duration(min(max(secs, 0), int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

func excerpt(body []byte) string {
	const most = 120
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "?")), " ")
	if s == "" {
		return "an empty body"
	}
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}

func hostOf(location string) string {
	host := location
	if _, rest, ok := strings.Cut(location, "://"); ok {
		host, _, _ = strings.Cut(rest, "/")
	}
	if host == "" {
		return "nowhere"
	}
	return host
}

// Explain says in words what a refusal's hint shows, field by field, with the
// values; for a person, not for a log.
func (r Reply) Explain() string {
	if r.Unsigned {
		return "the call was not signed: no app_secret is set"
	}
	if !r.Compared {
		return ""
	}
	if len(r.Differences) == 0 {
		return "the platform saw the same text as was signed, so the app_secret differs"
	}
	var parts []string
	for _, d := range r.Differences {
		switch {
		case d.Seen == "":
			parts = append(parts, fmt.Sprintf("%s: sent %q, the platform did not see it", d.Field, d.Sent))
		case d.Sent == "":
			parts = append(parts, fmt.Sprintf("%s: not sent, the platform saw %q", d.Field, d.Seen))
		case d.Mangled():
			parts = append(parts, fmt.Sprintf("%s: sent %q, the platform saw %q (a charset error)", d.Field, d.Sent, d.Seen))
		default:
			parts = append(parts, fmt.Sprintf("%s: sent %q, the platform saw %q", d.Field, d.Sent, d.Seen))
		}
	}
	return strings.Join(parts, "; ")
}

// DifferentFields lists the names alone, which a log may carry.
func (r Reply) DifferentFields() []string {
	var names []string
	for _, d := range r.Differences {
		names = append(names, d.Field)
	}
	slices.Sort(names)
	return names
}
