//go:build unix

package sink

import (
	"errors"
	"net"
	"syscall"
)

// waiting gives a function that reports whether the other side of a connection has
// said or closed anything that was not read yet; it does not wait. nil: this
// connection cannot tell.
func waiting(conn net.Conn) func() bool {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	some := false
	var one [1]byte
	look := func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		some = !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR)
		return true
	}
	return func() bool { return raw.Read(look) != nil || some }
}
