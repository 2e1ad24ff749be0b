package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parkbridge/internal/ledger"
	"parkbridge/sources"
)

// selection is how a person names records: by argument, or by source and key.
type selection struct {
	source, key string
	states      []string
}

func (a *app) selectionFlags(cmd *cobra.Command, s *selection) {
	a.sourceFlag(cmd, &s.source, "the source of --key")
	cmd.Flags().StringVar(&s.key, "key", "", "the row's key, with --source; a JSON list for a key of several columns")
}

func (s *selection) find(ctx context.Context, l *ledger.Ledger, args []string, one bool) ([]ledger.Record, error) {
	if s.key != "" {
		if s.source == "" || len(args) > 0 {
			return nil, &exit{exitUsage, errors.New("--key goes with --source, and with no other name of a record")}
		}
		key, err := canonicalKey(s.key)
		if err != nil {
			return nil, err
		}
		found, err := l.Records(ctx, ledger.Filter{Source: s.source, Key: key})
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("%w: source %s has none with key %s", ledger.ErrNoRecord, s.source, s.key)
		}
		return found, err
	}
	if len(args) == 0 {
		return nil, &exit{exitUsage, errors.New("name a record by its id or flow_no, or by --source and --key")}
	}
	var out []ledger.Record
	for _, name := range args {
		found, err := l.Find(ctx, name)
		if err != nil {
			return nil, err
		}
		if one && len(found) > 1 {
			return nil, &exit{exitUsage, fmt.Errorf("%s means record %d and record %d; say id:N or flow:NUMBER, or --source and --key", name, found[0].ID, found[1].ID)}
		}
		out = append(out, found...)
	}
	return out, nil
}

// canonicalKey brings a key of several columns into the ledger's form: a
// person may write spaces, and numbers without quotes.
func canonicalKey(key string) (string, error) {
	if !strings.HasPrefix(key, "[") {
		return key, nil
	}
	dec := json.NewDecoder(strings.NewReader(key))
	dec.UseNumber()
	var parts []any
	if err := dec.Decode(&parts); err != nil {
		return "", &exit{exitUsage, fmt.Errorf("--key %s is not a JSON list such as [\"A\", 17]: %w", key, err)}
	}
	values := make([]string, len(parts))
	for i, p := range parts {
		values[i] = fmt.Sprint(p)
	}
	return sources.EncodeKey(values), nil
}

// names is the source of a selection, to be checked against the config.
func (s *selection) names() []string {
	if s.source == "" {
		return nil
	}
	return []string{s.source}
}

// filterFlags are the flags of list and resend.
type filterFlags struct {
	states        []string
	source, plate string
	remark        bool
	since, until  string
	limit         int
}

// parseTime reads what a person types for a time, in the machine's zone, or
// how long ago it was.
func parseTime(flag, s string) (time.Time, error) { return parseTimeIn(flag, s, time.Local) }

// parseTimeIn is parseTime by the clocks of a zone.
func parseTimeIn(flag, s string, loc *time.Location) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime, "2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return time.Now().Add(-d), nil
	}
	return time.Time{}, &exit{exitUsage, fmt.Errorf("--%s %q is neither a time such as 2026-11-23 or \"2026-11-23 18:00\" nor an age such as 24h", flag, s)}
}

func (f *filterFlags) filter() (ledger.Filter, error) {
	out := ledger.Filter{States: f.states, Source: f.source, Plate: f.plate, Remark: f.remark, Limit: f.limit}
	for _, s := range f.states {
		if !slices.Contains(ledger.States, s) {
			return out, &exit{exitUsage, fmt.Errorf("--state %q is not one of %s", s, strings.Join(ledger.States, ", "))}
		}
	}
	var err error
	if f.limit < 0 {
		return out, &exit{exitUsage, errors.New("--limit must not be negative")}
	}
	if out.Since, err = parseTime("since", f.since); err != nil {
		return out, err
	}
	out.Until, err = parseTime("until", f.until)
	return out, err
}

// many is find, plus all records of some states.
func (s *selection) many(ctx context.Context, l *ledger.Ledger, args []string) ([]ledger.Record, error) {
	if len(s.states) == 0 {
		return s.find(ctx, l, args, true)
	}
	for _, state := range s.states {
		if state != ledger.Rejected && state != ledger.Invalid {
			return nil, &exit{exitUsage, fmt.Errorf("--state %q cannot be retried as a whole; rejected and invalid can", state)}
		}
	}
	if len(args) > 0 || s.key != "" {
		return nil, &exit{exitUsage, errors.New("--state goes without the name of a record")}
	}
	return l.Records(ctx, ledger.Filter{States: s.states, Source: s.source, Oldest: true})
}
