package sink

// ReadReply is readReply, for tests.
var ReadReply = readReply
