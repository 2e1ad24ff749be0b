// Package capture decides what a poll of a source reads: from where, in what
// pages, and how far the mark moves.
package capture

import (
	"time"

	"github.com/robfig/cron/v3"
)

// Config says how a source's rows are followed. The zero value of every field
// is replaced by [Config.Defaults].
type Config struct {
	// Settle is the age at which a poll's mark becomes the floor where there
	// is no evidence of open transactions; 0 means 10m.
	Settle time.Duration `yaml:"settle"`
	// Lookback is how far below the mark a cursor that the server does not
	// assign is read again; 0 means 24h.
	Lookback time.Duration `yaml:"lookback"`
	// RereadLimit is the most rows one poll reads again; 0 means 50000.
	RereadLimit int `yaml:"reread_limit"`
	// PagePause is how long the source is left alone between two pages of a poll;
	// 0 means no time.
	PagePause time.Duration `yaml:"page_pause"`
	// ReadLimit is the most rows read in a second where a poll has several pages,
	// as the first one has; 0 means no limit.
	ReadLimit int `yaml:"read_limit"`
	// OnChange says what becomes of a delivered record whose row changed:
	// ignore (also what empty means) or resend.
	OnChange string `yaml:"on_change"`
	// NullCursor says what becomes of rows without a cursor: wait (also what
	// empty means) or include.
	NullCursor string `yaml:"null_cursor"`
	// CursorFormat is the pattern of a text cursor that is not one of the
	// usual date-time forms.
	CursorFormat string `yaml:"cursor_format"`
	// Reconcile compares a window of the source with the ledger.
	Reconcile Reconcile `yaml:"reconcile"`
}

// Reconcile is a schedule and a window.
type Reconcile struct {
	// Schedule is a cron line or @every; empty means hourly for a cursor that
	// the server does not assign, and never for one that it does.
	Schedule string `yaml:"schedule"`
	// Window is how far back the rows are compared; 0 means 168h.
	Window time.Duration `yaml:"window"`
}

// Values of on_change and null_cursor.
const (
	ChangeIgnore = "ignore"  // a delivered record stays as it was sent; the change is counted
	ChangeResend = "resend"  // the changed row is a new revision, under a flow_no of its own
	NullWait     = "wait"    // rows without a cursor are counted; reconcile finds them once they have one
	NullInclude  = "include" // they are landed at once
)

// Defaults fills what was left out.
func (c *Config) Defaults() {
	if c.Settle == 0 {
		c.Settle = 10 * time.Minute
	}
	if c.Lookback == 0 {
		c.Lookback = 24 * time.Hour
	}
	if c.RereadLimit == 0 {
		c.RereadLimit = 50000
	}
	if c.OnChange == "" {
		c.OnChange = ChangeIgnore
	}
	if c.NullCursor == "" {
		c.NullCursor = NullWait
	}
	if c.Reconcile.Window == 0 {
		c.Reconcile.Window = 168 * time.Hour
	}
}

// Validate reports every problem with the config key it concerns. parser reads
// cron lines.
func (c *Config) Validate(parser cron.ScheduleParser, report func(key, problem string)) {
	positive := map[string]time.Duration{"settle": c.Settle, "lookback": c.Lookback, "reconcile.window": c.Reconcile.Window, "page_pause": c.PagePause}
	for key, d := range positive {
		if d < 0 {
			report(key, "must not be negative")
		}
	}
	if c.RereadLimit < 0 {
		report("reread_limit", "must not be negative")
	}
	if c.ReadLimit < 0 {
		report("read_limit", "must not be negative; 0 means no limit")
	}
	if c.OnChange != ChangeIgnore && c.OnChange != ChangeResend {
		report("on_change", "must be ignore or resend")
	}
	if c.NullCursor != NullWait && c.NullCursor != NullInclude {
		report("null_cursor", "must be wait or include")
	}
	if s := c.Reconcile.Schedule; s != "" {
		if _, err := parser.Parse(s); err != nil {
			report("reconcile.schedule", "is not a cron line such as 30 3 * * *: "+err.Error())
		}
	}
}
