package main

import (
	"bytes"
	"context"
	"crypto/md5" // by the platform's document
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// names of the fields, in the order of [fields.values].
var names = [...]string{
	"app_id", "car_desc", "car_type", "enter_time", "flow_no", "leave_time", "operate_time", "operator", "park_uuid",
	"parking_serial", "plate", "plate_color", "reason",
}

func (f *fields) values() [len(names)]string {
	return [...]string{
		f.AppID, f.CarDesc, f.CarType, f.EnterTime, f.FlowNo, f.LeaveTime, f.OperateTime, f.Operator, f.ParkUUID,
		f.ParkingSerial, f.Plate, f.PlateColor, f.Reason,
	}
}

func newTransport(concurrency int) *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: concurrency, DisableCompression: true, ResponseHeaderTimeout: 10 * time.Second}
}

const boundary = "loop0123456789abcdef"

func part(name string) string {
	return "--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + name +
		"\"\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
}

// poster pushes one record at a time; its buffers are used again.
type poster struct {
	o         options
	transport *http.Transport
	heads     [len(names)]string
	signHead  string
	plain     []byte
	body      []byte
	reply     bytes.Buffer
}

func newPoster(o options, transport *http.Transport) *poster {
	p := &poster{o: o, transport: transport, signHead: part("sign")}
	for i, name := range names {
		p.heads[i] = part(name)
	}
	return p
}

// answer is what became of a record.
type answer struct {
	id                    int64
	flowNo                string
	state, code, sequence string
}

// push sends a record until the gate has taken or rejected it.
func (p *poster) push(ctx context.Context, r record) answer {
	p.encode(&r.fields)
	for {
		code, sequence, err := p.post(ctx)
		switch {
		case err == nil && (code == "1001" || code == "1000" || code == "200"):
			return answer{r.id, r.fields.FlowNo, "delivered", code, sequence}
		case err == nil && code == "400":
			return answer{r.id, r.fields.FlowNo, "rejected", code, sequence}
		}
		time.Sleep(time.Second)
	}
}

// encode builds the signed multipart body.
func (p *poster) encode(f *fields) {
	p.plain, p.body = p.plain[:0], p.body[:0]
	for i, value := range f.values() {
		if value == "" {
			continue
		}
		p.plain = append(append(append(append(p.plain, names[i]...), '='), value...), '&')
		p.body = append(append(append(p.body, p.heads[i]...), value...), "\r\n"...)
	}
	p.plain = append(append(p.plain, "app_secret="...), p.o.secret...)
	sum := md5.Sum(p.plain)
	p.body = append(p.body, p.signHead...)
	p.body = append(p.body, strings.ToUpper(hex.EncodeToString(sum[:]))...)
	p.body = append(p.body, "\r\n--"+boundary+"--\r\n"...)
}

func (p *poster) post(ctx context.Context) (code, sequence string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.o.url, bytes.NewReader(p.body))
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
	res, err := p.transport.RoundTrip(req)
	if err != nil {
		return "", "", err
	}
	defer res.Body.Close()
	p.reply.Reset()
	if _, err := p.reply.ReadFrom(io.LimitReader(res.Body, 64<<10)); err != nil {
		return "", "", err
	}
	var reply struct{ Code, Hint, Seqno string }
	if err := json.Unmarshal(p.reply.Bytes(), &reply); err != nil {
		return "", "", err
	}
	if strings.Contains(reply.Hint, "app_secret=***") {
		return "401", reply.Seqno, nil
	}
	return reply.Code, reply.Seqno, nil
}
