package sink

// Secret is a text that prints as <secret>, whatever prints it.
type Secret string

const masked = "<secret>"

func (Secret) String() string { return masked }

// GoString masks the secret under %#v.
func (Secret) GoString() string { return masked }

// MarshalText masks the secret in JSON, YAML and structured logs.
func (Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }
