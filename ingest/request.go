package ingest

import (
	"cmp"
	"errors"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/acsbridge/acsbridge/internal/setting"
	"github.com/acsbridge/acsbridge/schemas"
)

// pathBelow returns what an escaped path has below the callback path. Every proxy must
// read the path in the same way: it has no encoded slash, backslash or NUL, and no dot
// segment.
func pathBelow(callbackPath, path string) (below string, ok bool) {
	below, ok = strings.CutPrefix(path, callbackPath)
	if !ok || (below != "" && below[0] != '/') {
		return "", false
	}
	lower := strings.ToLower(path)
	for _, bad := range []string{"%2f", "%5c", "%00", "%2e", "\\"} {
		if strings.Contains(lower, bad) {
			return "", false
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == ".." || segment == "." {
			return "", false
		}
	}
	return strings.TrimPrefix(below, "/"), true
}

// Check returns what is wrong with the paths and limits, each as an error of a setting
// of the command line. [New] refuses what it refuses.
func (c Config) Check() error {
	err := checkPath("callback-path", c.Path, DefaultPath)
	if c.EventGrid != nil {
		const name = "eventgrid-path"
		p := cmp.Or(c.EventGrid.Path, DefaultGridPath)
		if p == c.Path || strings.HasPrefix(p, c.Path+"/") {
			err = errors.Join(err, setting.Errorf(name, "%q is callback-path or below it; each route has its own senders", p))
		}
		err = errors.Join(err, checkPath(name, p, DefaultGridPath))
	}
	if c.MaxInFlight < 1 || c.MaxInFlight > maxLimit {
		err = errors.Join(err, setting.Errorf("max-in-flight", "%d is not between 1 and %d", c.MaxInFlight, maxLimit))
	}
	if c.MaxConnections < 1 || c.MaxConnections > maxLimit {
		err = errors.Join(err, setting.Errorf("max-connections", "%d is not between 1 and %d", c.MaxConnections, maxLimit))
	}
	return err
}

// maxLimit callbacks are 2 GiB of bodies; with as many connections, file descriptors
// run out first.
const maxLimit = 1 << 16

// checkPath checks the path of a route. It must not need escapes in a URL, nor mean
// something in a pattern of net/http.
func checkPath(name, p, like string) error {
	odd := func(r rune) bool { return !strings.ContainsRune("/.~", r) && !schemas.ValidToken(string(r)) }
	switch {
	case p == "/" || p == LivezPath:
		return setting.Errorf(name, "%q covers %s, where load balancers ask whether the bridge is there; choose another, like %s", p, LivezPath, like)
	case !strings.HasPrefix(p, "/") || path.Clean(p) != p || strings.ContainsFunc(p, odd):
		return setting.Errorf(name, "%q is not a path of plain segments; write it like %s", p, like)
	}
	return nil
}

// KeyParameter is the parameter of a URL's query that carries a callback key or a key
// of Event Grid's route. It is removed before anything is stored.
const KeyParameter = "acsbridge-key"

// SplitKeys removes the values of [KeyParameter] from a query and leaves the rest as
// it is, byte for byte. It does so also when no keys are configured: a URL may still
// have one.
func SplitKeys(query string) (rest string, values []string) {
	if !strings.Contains(query, KeyParameter) {
		return query, nil
	}
	var others []string
	for parameter := range strings.SplitSeq(query, "&") {
		if name, value, _ := strings.Cut(parameter, "="); name == KeyParameter {
			values = append(values, value)
		} else {
			others = append(others, parameter)
		}
	}
	return strings.Join(others, "&"), values
}

// usualType needs no parsing.
const usualType = "application/json; charset=utf-8"

// mediaType returns the media type of the body, empty when the request names
// none. The body must be JSON, in UTF-8 and uncompressed.
func mediaType(h http.Header) (string, error) {
	for _, encoding := range h["Content-Encoding"] {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return "", errMediaType
		}
	}
	values := h["Content-Type"]
	if len(values) == 0 || (len(values) == 1 && values[0] == "") {
		return "", nil
	}
	if values[0] == usualType && len(values) == 1 {
		return "application/json", nil
	}
	name, params, err := mime.ParseMediaType(values[0])
	if err != nil || len(values) > 1 {
		return "", errMediaType
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", errMediaType
	}
	switch name {
	case "application/json", schemas.ContentTypeEvent, "application/cloudevents-batch+json":
		return name, nil
	}
	return "", errMediaType
}

// traceparent returns the request's trace context when it is well formed (W3C
// Trace Context level 1, section 3.2.2).
func traceparent(h http.Header) string {
	v := h.Get("Traceparent")
	if len(v) != 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return ""
	}
	for i := range len(v) {
		if c := v[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	if strings.Count(v, "-") != 3 || v[:2] == "ff" {
		return ""
	}
	return v
}
