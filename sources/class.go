package sources

import (
	"context"
	"fmt"
	"time"
)

// Assigned tells how the values of a column come about, for the class of a
// cursor.
type Assigned struct {
	// Not says why the server does not assign the column's values, one after
	// another, inside the transaction that inserts the row; "" where it does.
	Not string
	// Serial tells that values become visible in the order they were assigned,
	// because there is one writer at a time.
	Serial bool
	// Reused tells that the value of a deleted last row is assigned again.
	Reused bool
}

// Class is what kind of cursor a source has, which decides how rows that turn
// up below the mark are found.
type Class struct {
	// Server: one integer or rowversion column that the source's own server assigns
	// inside the inserting transaction, on a plain table. Everything else is class
	// client.
	Server bool
	// Why says what makes the class.
	Why string
	// Serial and Reused are as in [Assigned]; false for class client.
	Serial, Reused bool
	// Times tells that values of the cursor may be times; whether one is, only the
	// value can tell. Text tells that they are text.
	Times, Text bool
}

func (c Class) String() string {
	if c.Server {
		return "server"
	}
	return "client"
}

// Class is the class of the source's cursor.
func (r *Reader) Class() Class { return r.class }

// Identity names the server and the database that the source is connected to.
func (r *Reader) Identity(ctx context.Context) (string, error) { return r.db.Identity(ctx) }

func (r *Reader) classify(ctx context.Context) error {
	cursor := r.order[0]
	client := func(why string, args ...any) error {
		r.class = Class{Why: fmt.Sprintf(why, args...)}
		r.clock = newCursorClock(r.cfg, cursor)
		r.class.Times, r.class.Text = r.clock != nil, cursor.IsText
		return nil
	}
	switch {
	case r.cfg.Query != "":
		return client("it reads a query, whose rows can enter it late")
	case r.cfg.Where != "":
		return client("it has a where, which a row can meet late, by an update")
	case r.cfg.CursorLayout != "":
		return client("cursor_format says that the cursor %s is a time", cursor.Name)
	case !cursor.Integer && !cursor.Version:
		return client("the cursor %s is no number that the server assigns", cursor.Name)
	}
	a, err := r.db.Assigned(ctx, splitName(r.cfg.Table), cursor.Name)
	if err != nil {
		return fmt.Errorf("asking how %s comes by its values: %w", cursor.Name, err)
	}
	if a.Not != "" {
		return client("%s", a.Not)
	}
	r.class = Class{Server: true, Why: "the server assigns " + cursor.Name, Serial: a.Serial, Reused: a.Reused}
	return nil
}

// Evidence is what one look at a server's open transactions showed.
type Evidence struct {
	// Now is the server's clock just before the look.
	Now time.Time
	// Open lists the transactions that are open.
	Open []Txn
	// InDoubt lists prepared transactions, which hold every floor while they
	// exist: what they are called changes when the server restarts.
	InDoubt []Txn
	// Clear, where it is set, is what counts instead of two looks at Open: it
	// tells that nothing at or below a position can turn up any more that a read
	// begun after the look would not see. Open then names what keeps it from that.
	Clear func(Position) bool
	// None says why this server has no evidence to give; "" where it has.
	None string
	// Stale says why the look showed nothing this time; "" where it did.
	Stale string
}

// Txn is one open transaction.
type Txn struct {
	ID    string    `json:"id"`    // the same in every look for as long as it is open
	Who   string    `json:"who"`   // whose it is, for people
	Since time.Time `json:"since"` // when it began; zero where the server does not say
}
