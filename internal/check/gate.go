package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"parkbridge/sink"
)

// expiresSoon is how long before its end a certificate is worth a word.
const expiresSoon = 14 * 24 * time.Hour

// gate looks whether calls would be signed, and whether the gate can be reached.
// Nothing is pushed.
func (c *Checker) gate(ctx context.Context) {
	r := reporter{tell: c.Tell}
	cfg := c.Config.Sink
	if cfg.AppSecret == "" {
		r.warn("secret", do("set sink.app_secret, or app_secret_file, to the secret that the platform issued; without one the platform takes calls only where it was told to"),
			"no app_secret is set, so calls go out unsigned")
	} else {
		r.ok("secret", "calls are signed")
	}
	client, err := sink.New(cfg)
	if err != nil {
		r.fail("gate", Config, do("mend it in the configuration"), "%v", err)
		return
	}
	defer client.Close()
	u, err := url.Parse(cfg.URL)
	if err != nil {
		r.fail("gate", Config, do("mend sink.url in the configuration"), "sink.url is no address")
		return
	}
	found, err := client.Reach(ctx)
	at := u.Host
	if found.Proxy != "" {
		at += " (through the proxy " + found.Proxy + ")"
	}
	if fault, ok := errors.AsType[*sink.TLSError](err); ok {
		r.fail("gate", Gate, do(
			"See that sink.url is right, that this PC's clock is ("+c.Now().UTC().Format("2006-01-02 15:04")+" UTC), and that no login page or proxy of the network answers in the gate's place.",
			"A certificate of the city's own goes into sink.ca_file."),
			"%s: %s", at, fault.Problem)
		return
	}
	if err != nil {
		r.fail("gate", Gate, do("see that this PC is online and that a firewall lets it out to "+u.Host+"; a proxy is named by the environment variable HTTPS_PROXY"),
			"%s cannot be reached: %v", at, err)
		return
	}
	c.reached(r, u, at, found)
}

// reached judges what the gate answered to a question without a record in it.
func (c *Checker) reached(r reporter, u *url.URL, at string, found sink.Reached) {
	secured := ""
	left := found.Expires.Sub(c.Now())
	if !found.Expires.IsZero() {
		secured = "; its certificate is good until " + found.Expires.UTC().Format(time.DateOnly)
	}
	switch {
	case found.Redirect != "" || found.Status == http.StatusNetworkAuthenticationRequired:
		to := ""
		if found.Redirect != "" {
			to = ", to " + found.Redirect
		}
		r.fail("gate", Gate, do("open a page in this PC's browser: a login page of the network (a captive portal) must be passed first; else mend sink.url"),
			"%s sends elsewhere (HTTP %d%s), which is not followed", at, found.Status, to)
	case found.Status == http.StatusProxyAuthRequired:
		r.fail("gate", Gate, do("put the proxy's account into HTTPS_PROXY: http://user:password@proxy:port"), "%s: the proxy asks for an account", at)
	case found.Page:
		r.warn("gate", do("see that sink.url is the platform's address, and that it is not a login page of the network that answers"),
			"%s answers with a web page (HTTP %d), which the platform does not", at, found.Status)
	case found.Status >= 500 && found.Status != http.StatusNotImplemented:
		r.warn("gate", do("try again later; what is pending waits, nothing is lost"), "%s is reached, and answers HTTP %d", at, found.Status)
	case !found.Expires.IsZero() && left < expiresSoon:
		r.warn("gate", do("tell the platform; when it has ended, nothing can be sent until it is renewed"), "%s is reached%s, which is %s away", at, secured, days(left))
	case u.Scheme == "http" && !local(u.Hostname()):
		r.warn("gate", do("use the https:// address"), "%s is reached without TLS: plates and names can be read on the way", at)
	default:
		r.ok("gate", "%s is reached%s", at, secured)
	}
}

// local reports that a host is this machine.
func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// days says a length of time as a person does.
func days(d time.Duration) string {
	if n := int(d.Hours() / 24); n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "1 day"
}
