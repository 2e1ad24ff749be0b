package sqlserver

import "testing"

// Whatever a server gives for a plan, it is read or refused, and a seek is not
// told of what has none.
func FuzzReadPlan(f *testing.F) {
	for _, text := range []string{
		`<?xml version="1.0" encoding="utf-16"?><ShowPlanXML><RelOp PhysicalOp="Index Seek" EstimateRows="1e2"><IndexScan Lookup="1"><Object Table="[p]" Index="[i]]x]"/></IndexScan></RelOp></ShowPlanXML>`,
		`<RelOp PhysicalOp="Sort"><RelOp PhysicalOp="Table Scan" TableCardinality="-1"/></RelOp>`,
		`</RelOp>`, `<?xml`, `<RelOp`, "", "[",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		plan, err := readPlan(text)
		if err != nil && plan.Seek {
			t.Fatalf("%q is no plan, and a seek", text)
		}
	})
}
