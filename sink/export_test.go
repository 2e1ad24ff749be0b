package sink

// ReadReply is readReply, for tests.
var ReadReply = readReply

// Doubt has a client look at every kept connection before it is used again.
func Doubt(c *Client) {
	c.transport.(*direct).sure = 0
}
