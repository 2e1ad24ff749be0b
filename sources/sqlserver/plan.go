package sqlserver

import (
	"database/sql"
	"database/sql/driver"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"parkbridge/sources"
)

// discard closes a connection for good: it does not go back to the pool.
func discard(c *sql.Conn) {
	_ = c.Raw(func(any) error { return driver.ErrBadConn }) // what the pool takes for a broken one
	_ = c.Close()                                           // which it is by now
}

// step is one operator of a plan.
type step struct {
	op          string // such as "Index Seek"
	rows        float64
	table, name string // of the index, or of the table alone
	lookup      bool   // it fetches the row that an index has led to
}

// readPlan reads a plan as SHOWPLAN_XML gives it
// (http://schemas.microsoft.com/sqlserver/2004/07/showplan, the same in every
// version).
func readPlan(text string) (sources.Plan, error) {
	plan := sources.Plan{Rows: -1}
	steps, err := planSteps(text)
	if err != nil {
		return plan, fmt.Errorf("reading the server's plan: %w", err)
	}
	plan.Rows = 0
	seeks, scans := false, false
	var told []string
	for _, s := range steps {
		switch {
		case s.lookup || strings.HasSuffix(s.op, "Lookup"):
		case strings.HasSuffix(s.op, "Seek"):
			seeks = true
			plan.Rows += int64(s.rows)
		case s.op == "Constant Scan": // it makes the bounds of a seek
			continue
		case strings.Contains(s.op, "Scan"), strings.HasPrefix(s.op, "Remote"), strings.HasPrefix(s.op, "Table-valued"):
			scans = true
			plan.Rows += int64(s.rows)
		case s.op == "Sort":
			plan.Sorts = true
		case s.op == "Top" || s.op == "Compute Scalar":
			continue
		}
		told = append(told, s.String())
	}
	plan.Seek, plan.Steps = seeks && !scans, strings.Join(told, "; ")
	return plan, nil
}

func (s step) String() string {
	op := s.op
	if s.lookup {
		op = "Key Lookup" // by the name that the tools show
	}
	switch {
	case s.name != "":
		return op + " by " + s.name
	case s.table != "":
		return op + " on " + s.table
	}
	return op
}

// planSteps lists a plan's operators, innermost first.
func planSteps(text string) (steps []step, err error) {
	// The text is a string by now, whatever its declaration says of UTF-16.
	if at := strings.Index(text, "?>"); strings.HasPrefix(text, "<?xml") && at > 0 {
		text = text[at+len("?>"):]
	}
	d := xml.NewDecoder(strings.NewReader(text))
	var open []*step
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch e := token.(type) {
		case xml.StartElement:
			if e.Name.Local == "RelOp" {
				open = append(open, newStep(e))
			} else if len(open) > 0 {
				open[len(open)-1].take(e)
			}
		case xml.EndElement:
			if e.Name.Local == "RelOp" {
				steps, open = append(steps, *open[len(open)-1]), open[:len(open)-1]
			}
		}
	}
	if len(steps) == 0 {
		return nil, errors.New("it has no operator")
	}
	return steps, nil
}

// newStep reads an operator's own attributes. How many rows it reads is told from
// 2016 on, and of a scan by how many the table has; else what it gives counts.
func newStep(e xml.StartElement) *step {
	s := &step{op: attribute(e, "PhysicalOp")}
	of := "EstimatedRowsRead"
	if strings.Contains(s.op, "Scan") && attribute(e, of) == "" {
		of = "TableCardinality"
	}
	if attribute(e, of) == "" {
		of = "EstimateRows"
	}
	s.rows, _ = strconv.ParseFloat(attribute(e, of), 64) // 0 where it is not told
	return s
}

// take reads what stands within an operator, and in none that is inside it.
func (s *step) take(e xml.StartElement) {
	switch e.Name.Local {
	case "IndexScan":
		s.lookup = attribute(e, "Lookup") == "1" || attribute(e, "Lookup") == "true"
	case "Object":
		if s.table == "" {
			s.table, s.name = unquote(attribute(e, "Table")), unquote(attribute(e, "Index"))
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func unquote(name string) string {
	if len(name) > 1 && name[0] == '[' && name[len(name)-1] == ']' {
		return strings.ReplaceAll(name[1:len(name)-1], "]]", "]")
	}
	return name
}
