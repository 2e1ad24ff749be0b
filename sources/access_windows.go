package sources

// MayWrite reports whether this account may write to a file, or make files in a
// folder. known is false where that cannot be told, as here, where only an
// attempt shows what all the rights come to.
func MayWrite(string) (may, known bool) { return false, false }
