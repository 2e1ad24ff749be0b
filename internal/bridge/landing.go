package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"parkbridge/internal/capture"
	"parkbridge/internal/ledger"
	"parkbridge/mapping"
	"parkbridge/sink"
	"parkbridge/sources"
)

// lander maps the rows that a poll reads and lands what is new of them.
type lander struct {
	b      *Bridge
	s      *Source
	mapper *mapper
	lease  *ledger.Lease
	mark   ledger.Mark // as it is stored
	server string      // what the source is connected to; "" for a table of a series, whose source knows
	// generation is that of new records, and tables tells of which period an earlier
	// one was; nil: there is none.
	generation int
	tables     []ledger.TableMark
	d          *delivery // is told what has landed; nil: nobody is
	read       int       // rows read that no landing has counted yet
	tally      *tally    // what a reconcile counts; nil: there is none
	dry        bool      // nothing is written
	closed     bool      // no poll comes to it any more
	// allNew tells that no row of the last page was known: it is taken that none
	// of the next one is, which the ledger's own index refutes where it is wrong.
	allNew bool
}

// Land lands what is new in a page, in one transaction with the state.
func (l *lander) Land(ctx context.Context, page sources.Page, state capture.State) error {
	l.read += len(page.Rows)
	guessed := l.allNew
	err := l.land(ctx, page, state)
	if errors.Is(err, ledger.ErrKnown) && guessed {
		err = l.land(ctx, page, state)
	}
	return err
}

func (l *lander) land(ctx context.Context, page sources.Page, state capture.State) error {
	var known map[string]ledger.Known
	if !l.allNew || l.tally != nil {
		keys := make([]string, len(page.Rows))
		for i, row := range page.Rows {
			keys[i] = row.Key
		}
		var err error
		if known, err = l.b.Ledger.Known(ctx, l.s.Name, l.s.Table, keys); err != nil {
			return err
		}
	}
	found, err := l.sift(page, known)
	if err != nil || found.nothing() || l.dry {
		return err
	}
	err = l.write(ctx, encodeState(state), found)
	l.allNew = err == nil && len(known) == 0 && l.tally == nil && l.generation == 1 // the index tells fillings of a table apart
	return err
}

// sifted is what is new in a page.
type sifted struct {
	rows    []ledger.New
	fields  []sink.Fields // what is to be sent of each row; nil where it does not map
	changes []ledger.Change
}

func (s *sifted) add(row ledger.New, fields sink.Fields) {
	s.rows, s.fields = append(s.rows, row), append(s.fields, fields)
}

func (s *sifted) nothing() bool { return len(s.rows)+len(s.changes) == 0 }

// Save stores the state where it is not the stored one.
func (l *lander) Save(ctx context.Context, state capture.State) error {
	to := encodeState(state)
	if l.dry || (l.mark.Started && l.mark.Same(to) && (l.mark.Server == l.server)) {
		return nil
	}
	return l.write(ctx, to, &sifted{})
}

func (l *lander) write(ctx context.Context, to ledger.State, found *sifted) error {
	work := context.WithoutCancel(ctx) // what was read is landed, also when stopping
	in := ledger.Landing{
		Lease: l.lease, From: l.mark, To: to, Shape: l.s.Shape, Server: l.server, Table: l.s.Table, Rows: found.rows, Changes: found.changes,
	}
	if l.d != nil && !found.nothing() {
		var err error
		if in.RunID, err = l.d.noteRun(work, l.s.Name); err != nil {
			return err
		}
		in.Read, in.Then = l.read, func() { l.d.hand(l.s.Name, found.rows, found.fields, len(found.changes) > 0) }
	}
	landed, err := l.b.Ledger.Land(work, in)
	if err != nil {
		return err
	}
	l.mark = landed.Mark
	if in.RunID != 0 {
		l.read = 0
	}
	if landed.Invalid > 0 {
		l.b.Log.Warn("rows do not map; they are kept as invalid", "source", l.s.Name, "rows", landed.Invalid)
	}
	if landed.Pending > 0 {
		l.b.Log.Debug("landed rows", "source", l.s.Name, "rows", len(found.rows), "pending", landed.Pending)
		if l.d != nil {
			l.d.reopened(found.changes)
			l.d.wake()
			l.d.makeRoom(ctx)
		}
	}
	return nil
}

// Recognise tells whether a page's one row is the one that its key's record was
// made of, and gives the keys that landed last.
func (l *lander) Recognise(ctx context.Context, page sources.Page, most int) (known bool, newest []string, err error) {
	row := page.Rows[0]
	records, err := l.b.Ledger.Known(ctx, l.s.Name, l.s.Table, []string{row.Key})
	if err != nil {
		return false, nil, err
	}
	k, ok := records[row.Key]
	known = ok && !otherRow(k, l.mapper.identityOf(row.Values))
	newest, err = l.b.Ledger.NewestKeys(ctx, l.s.Name, l.s.Table, l.generation, most)
	return known, newest, err
}

// sift finds what is new in a page: rows without a record, and rows that are not
// what their record, one of known, holds.
func (l *lander) sift(page sources.Page, known map[string]ledger.Known) (*sifted, error) {
	out := &sifted{}
	if len(known) == 0 { // all will be new
		out.rows, out.fields = make([]ledger.New, 0, len(page.Rows)), make([]sink.Fields, 0, len(page.Rows))
	}
	inPage := make(map[string]string, len(page.Rows))
	changed, reused := 0, 0
	for _, row := range page.Rows {
		hash, identity := l.mapper.hashes(row.Values)
		if first, twice := inPage[row.Key]; twice {
			if first != hash {
				return nil, fmt.Errorf("the key %s stands for two rows, so it does not identify one; mend key in the config (nothing of this page was landed)", row.Key)
			}
			continue
		}
		inPage[row.Key] = hash
		k, found := known[row.Key]
		if found && k.Hash == hash && k.Seen == "" {
			l.tally.matched(k)
			continue
		}
		c := candidate{row: row, hash: hash, identity: identity}
		if !found || l.refilled(c, k) {
			fields, content := l.readied(c, 0, l.generation)
			l.tally.missing(content.Day, l.dry)
			out.add(ledger.New{Key: row.Key, Generation: l.generation, Content: content}, fields)
			continue
		}
		l.tally.matched(k)
		row, fields, change := l.compare(c, k)
		if row != nil {
			out.add(*row, fields)
			if row.Revision == 0 {
				reused++
			}
		}
		if change != nil {
			out.changes = append(out.changes, *change)
			if change.Seen != "" {
				changed++
			}
		}
		if row != nil || (change != nil && change.Rehash == "") || (k.Hash != hash && k.Seen == hash) {
			l.tally.changed(k)
		}
	}
	if changed > 0 && !l.dry {
		l.b.Log.Warn("rows were changed after they had been delivered; the records stay as they were sent (see on_change)", "source", l.s.Name, "rows", changed)
	}
	if reused > 0 && !l.dry {
		l.b.Log.Warn("keys of landed rows were given to other rows; those are kept as invalid", "source", l.s.Name, "rows", reused)
	}
	return out, nil
}

// candidate is a row that may be new.
type candidate struct {
	row            sources.Row
	hash, identity string
}

// compare says what a row does to the record of its key: it is a record of its
// own, it changes the record, or neither.
func (l *lander) compare(c candidate, k ledger.Known) (row *ledger.New, fields sink.Fields, change *ledger.Change) {
	change = &ledger.Change{ID: k.ID, Was: k.Hash, Key: c.row.Key}
	switch {
	case k.State == ledger.Held:
		return nil, nil, l.compareHeld(c, k)
	case k.Hash == c.hash: // what was changed is as it was again
		return nil, nil, change
	case (k.State != ledger.Invalid || k.Generation > l.generation) && otherRow(k, c.identity):
		_, content := l.content(c, l.origin(0, k.Generation+1))
		content.Mapped = ledger.Mapped{Problems: []ledger.Problem{{Field: "key", Problem: fmt.Sprintf(
			"the key was given to another row: record %d has it, and was read with another operate_time or parking_serial; "+
				"if this is a release of its own, let flow_no tell the two apart and retry it, else dismiss it", k.ID)}}}
		return &ledger.New{Key: c.row.Key, Generation: k.Generation + 1, Content: content}, nil, nil
	case !sources.SameColumns(k.Hash, c.hash) && (k.State == ledger.Delivered || k.State == ledger.Dismissed):
		// The mapping reads other columns now. That is no change of the row.
		change.Rehash, change.Identity = c.hash, c.identity
		return nil, nil, change
	case k.State == ledger.Delivered && l.s.Poller.Config.OnChange == capture.ChangeResend:
		fields, content := l.readied(c, k.Revision+1, k.Generation)
		if content.Held {
			return nil, nil, nil // until it is ready
		}
		if k.Seen == "" {
			change = nil // else it was counted as changed, and is no more
		}
		return &ledger.New{Key: c.row.Key, Generation: k.Generation, Revision: k.Revision + 1, Content: content}, fields, change
	case k.State == ledger.Delivered:
		if k.Seen == c.hash {
			return nil, nil, nil // known and counted
		}
		change.Seen = c.hash
		return nil, nil, change
	}
	_, content := l.readied(c, k.Revision, k.Generation)
	if content.Held {
		return nil, nil, nil // a row that was ready once stays as it was then, until it is ready again
	}
	change.To = &content
	return nil, nil, change
}

// otherRow reports that a key's record was made of another row, by the columns
// that tell one release from another.
func otherRow(k ledger.Known, identity string) bool {
	return k.Identity != identity && sources.SameColumns(k.Identity, identity)
}

// content maps a row.
func (l *lander) content(c candidate, from mapping.Origin) (sink.Fields, ledger.Content) {
	fields, content := l.mapper.mapped(c.row.Values, from)
	content.Columns, content.Hash, content.Identity = l.mapper.row(c.row.Values), c.hash, c.identity
	return fields, content
}

// origin is where a row of a filling of the table came from.
func (l *lander) origin(revision, generation int) mapping.Origin {
	return mapping.Origin{Revision: revision, Table: l.s.Table, Period: periodOf(l.tables, generation), Now: l.b.Now()}
}

func encodeState(s capture.State) ledger.State {
	seen, err := json.Marshal(s.Seen)
	if err != nil {
		panic(err) // a struct of strings and numbers always encodes
	}
	return ledger.State{Mark: s.Mark, Floor: s.Floor, Journal: s.Journal.Encode(), Seen: string(seen)}
}

// StateOf is the capture state that a stored mark holds: how far reading has come,
// its journal, and what the last poll saw beside the rows.
func StateOf(m ledger.Mark) (capture.State, error) {
	s := capture.State{Mark: m.Mark, Floor: m.Floor, Started: m.Started}
	if !m.Started {
		return s, nil
	}
	var err error
	if s.Journal, err = capture.DecodeJournal(m.Journal, m.Mark); err == nil && m.Seen != "" {
		err = json.Unmarshal([]byte(m.Seen), &s.Seen)
	}
	return s, err
}
