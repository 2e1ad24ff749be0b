//go:build failpoint

// Package failpoint ends the process at named places, to prove that nothing is
// lost wherever that happens.
package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

var (
	name, nth = parse(os.Getenv("PARKBRIDGE_FAILPOINT"))
	hits      atomic.Int64
)

// parse reads NAME:N, the N-th time that NAME is hit.
func parse(s string) (string, int64) {
	name, count, _ := strings.Cut(s, ":")
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		n = 1
	}
	return name, n
}

// Hit is such a place: the process is killed there as PARKBRIDGE_FAILPOINT says.
func Hit(at string) {
	if at != name || hits.Add(1) != nth {
		return
	}
	fmt.Fprintln(os.Stderr, "failpoint", at)
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	panic(err) // not reached: SIGKILL does not return
}
