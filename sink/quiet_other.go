//go:build !unix

package sink

import "net"

// waiting gives nil: a connection cannot tell without waiting what its other side
// has said.
func waiting(net.Conn) func() bool { return nil }
