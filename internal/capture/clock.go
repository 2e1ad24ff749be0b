package capture

import "time"

// Moment is a point in time by two clocks, neither of which alone can be
// trusted with how long ago something was: this machine's time since it booted,
// which nobody can set but a reboot begins anew, and the database's clock,
// which may be set.
type Moment struct {
	Boot time.Duration `json:"boot"` // since this machine booted
	DB   time.Time     `json:"db"`   // by the source's server
}

// since is how long ago an earlier moment was, by the clock that says less.
func (m Moment) since(earlier Moment) time.Duration {
	boot := m.Boot - earlier.Boot
	if boot < 0 {
		boot = m.Boot // another life of the machine, which began after that moment
	}
	return min(boot, m.DB.Sub(earlier.DB))
}
