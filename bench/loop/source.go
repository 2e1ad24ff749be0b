package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // as parkbridge has it

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite"
)

const pageSize = 1000

// record is a row as it was mapped.
type record struct {
	id     int64
	fields fields
}

// fields of the gate, in the order in which they are signed.
type fields struct {
	AppID         string `json:"app_id,omitempty"`
	CarDesc       string `json:"car_desc,omitempty"`
	CarType       string `json:"car_type,omitempty"`
	EnterTime     string `json:"enter_time,omitempty"`
	FlowNo        string `json:"flow_no"`
	LeaveTime     string `json:"leave_time,omitempty"`
	OperateTime   string `json:"operate_time"`
	Operator      string `json:"operator"`
	ParkUUID      string `json:"park_uuid"`
	ParkingSerial string `json:"parking_serial"`
	Plate         string `json:"plate"`
	PlateColor    string `json:"plate_color,omitempty"`
	Reason        string `json:"reason"`
}

// rows is what pgx's and database/sql's have in common.
type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
}

type source struct {
	o      options
	zone   *time.Location
	query  func(ctx context.Context, after int64) (rows, func(), error)
	texts  bool // times are text
	colors map[string]string
	kinds  map[string]string
}

func openSource(ctx context.Context, o options) *source {
	zone, err := time.LoadLocation(o.zone)
	must(err)
	s := &source{
		o: o, zone: zone, texts: o.driver == "sqlite",
		colors: map[string]string{"蓝": "1", "黄": "2", "白": "3", "黑": "4", "绿": "5"},
		kinds:  map[string]string{"临时卡": "1", "月卡": "2", "贵宾卡": "3", "储值卡": "4"},
	}
	//nolint:gosec // the table is the caller's own
	stmt := fmt.Sprintf(`SELECT id, entry_id, plate_no, color, card_kind, in_time, out_time, op_time, COALESCE(op_name, '未知'), COALESCE(reason, '未填写')
		FROM %s WHERE id > ? ORDER BY id LIMIT %d`, o.table, pageSize)
	dsn := o.dsn
	switch o.driver {
	case "postgres":
		conn, err := pgx.Connect(ctx, dsn)
		must(err)
		stmt = strings.ReplaceAll(stmt, "?", "$1")
		s.query = func(ctx context.Context, after int64) (rows, func(), error) {
			r, err := conn.Query(ctx, stmt, after) //nolint:sqlclosecheck // prepared once by pgx; page closes
			return r, r.Close, err
		}
		return s
	case "mysql":
		c, err := mysql.ParseDSN(dsn)
		must(err)
		c.ParseTime, c.Loc = true, zone
		dsn = c.FormatDSN()
	case "sqlite":
		dsn = "file:" + dsn + "?mode=ro"
	}
	db, err := sql.Open(o.driver, dsn)
	must(err)
	prepared, err := db.PrepareContext(ctx, stmt)
	must(err)
	s.query = func(ctx context.Context, after int64) (rows, func(), error) {
		r, err := prepared.QueryContext(ctx, after) //nolint:rowserrcheck // page asks
		return r, func() { _ = r.Close() }, err
	}
	return s
}

// pages sends every page above an id.
func (s *source) pages(ctx context.Context, after int64, to chan<- []record) {
	for {
		page, err := s.page(ctx, after)
		must(err)
		if len(page) > 0 {
			to <- page
			after = page[len(page)-1].id
		}
		if len(page) < pageSize {
			close(to)
			return
		}
	}
}

func (s *source) page(ctx context.Context, after int64) ([]record, error) {
	found, done, err := s.query(ctx, after)
	if err != nil {
		return nil, err
	}
	defer done()
	page := make([]record, 0, pageSize)
	var color, kind string
	var times [3]time.Time
	var texts [3]string
	for found.Next() {
		page = append(page, record{fields: fields{AppID: s.o.appID, ParkUUID: s.o.parkUUID}})
		r := &page[len(page)-1]
		f := &r.fields
		dest := []any{&r.id, &f.ParkingSerial, &f.Plate, &color, &kind, &times[0], &times[1], &times[2], &f.Operator, &f.Reason}
		if s.texts {
			dest[5], dest[6], dest[7] = &texts[0], &texts[1], &texts[2]
		}
		if err := found.Scan(dest...); err != nil {
			return nil, err
		}
		for i, text := range texts {
			if !s.texts {
				break
			}
			if times[i], err = time.ParseInLocation("2006-01-02 15:04:05", text, s.zone); err != nil {
				return nil, err
			}
		}
		f.FlowNo = fmt.Sprint("EX", r.id)
		f.Plate = strings.ToUpper(f.Plate)
		f.PlateColor, f.CarType, f.CarDesc = oneOf(s.colors, color, "-1"), oneOf(s.kinds, kind, "0"), kind
		f.EnterTime, f.LeaveTime, f.OperateTime = s.utc(times[0]), s.utc(times[1]), s.utc(times[2])
	}
	return page, found.Err()
}

func oneOf(values map[string]string, value, otherwise string) string {
	if v, ok := values[value]; ok {
		return v
	}
	return otherwise
}

// utc reads a time's wall clock in the lot's zone.
func (s *source) utc(t time.Time) string {
	if t.Location() != s.zone {
		t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), s.zone)
	}
	if t.Nanosecond() == 0 {
		return t.UTC().Format("2006-01-02T15:04:05Z")
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}
