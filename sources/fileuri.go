package sources

import (
	"net/url"
	"path/filepath"
	"strings"
)

// FileURI makes the file: URI of a path (https://www.sqlite.org/uri.html),
// Windows drives and shares included; a DSN that already is one stays as it
// is. params are added as its query.
func FileURI(dsn string, params ...string) string {
	uri := dsn
	if !strings.HasPrefix(dsn, "file:") {
		p := filepath.ToSlash(dsn)
		if len(p) > 1 && p[1] == ':' {
			p = "/" + p // C:/lot.db
		}
		uri = "file:" + (&url.URL{Path: p}).EscapedPath()
		if strings.HasPrefix(p, "/") {
			uri = "file://" + (&url.URL{Path: p}).EscapedPath()
		}
	}
	if len(params) == 0 {
		return uri
	}
	sep := "?"
	if strings.Contains(uri, "?") {
		sep = "&"
	}
	return uri + sep + strings.Join(params, "&")
}

// FilePath takes the path out of a DSN that may be a file: URI.
func FilePath(dsn string) string {
	path, ok := strings.CutPrefix(dsn, "file:")
	if !ok {
		return dsn
	}
	path, _, _ = strings.Cut(path, "?")
	path = strings.TrimPrefix(path, "//")
	if p, err := url.PathUnescape(path); err == nil {
		path = p
	}
	if len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:] // /C:/lot.db
	}
	return path
}
