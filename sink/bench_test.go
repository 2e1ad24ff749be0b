package sink

import "testing"

func benchFields() Fields {
	return FieldsOf(map[string]string{
		"park_uuid": "49f0cc52-e8c7-41e3-b54d-af666b8cc11a", "flow_no": "EX4711", "parking_serial": "IN4711", "plate": "粤B12345", "plate_color": "1",
		"car_type": "1", "car_desc": "临时卡", "enter_time": "2026-11-01T00:30:00Z", "operate_time": "2026-11-01T02:00:00Z", "operator": "值班员", "reason": "设备异常",
	})
}

func benchClient(b *testing.B) *Client {
	b.Helper()
	c, err := New(Config{URL: "http://127.0.0.1:1", AppID: "op1", AppSecret: "s3cret", Concurrency: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// BenchmarkSign completes and signs one record.
func BenchmarkSign(b *testing.B) {
	c, fields := benchClient(b), benchFields()
	b.ReportAllocs()
	for b.Loop() {
		if len(c.wire(nil, fields)) != len(fields)+2 {
			b.Fatal("not signed")
		}
	}
}

// BenchmarkBody builds one multipart body.
func BenchmarkBody(b *testing.B) {
	c := benchClient(b)
	call, fields := &call{}, benchFields()
	b.ReportAllocs()
	for b.Loop() {
		if c.encode(call, fields); len(call.message) == 0 {
			b.Fatal("empty")
		}
	}
}
