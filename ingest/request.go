package ingest

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/acsbridge/acsbridge/schemas"
)

// route returns what the path has below the callback path, still escaped.
func (h *Handler) route(r *http.Request) (below string, err error) {
	path := r.URL.EscapedPath()
	below, ok := strings.CutPrefix(path, h.config.Path)
	if !ok || (below != "" && below[0] != '/') || !plainPath(path) {
		return "", errNotFound
	}
	return strings.TrimPrefix(below, "/"), nil
}

// checkPath reports what a configured path must not be.
func checkPath(what, path string) error {
	if path == LivezPath || path == "/" {
		return fmt.Errorf("%s %q: covers %s, where load balancers ask; choose another, like %s", what, path, LivezPath, DefaultPath)
	}
	if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || !plainPath(path) {
		return fmt.Errorf("%s %q: must start with a slash, not end with one, and need no escapes", what, path)
	}
	return nil
}

// plainPath reports whether a path means the same to every proxy: no encoded
// slash, backslash or NUL, and no step up.
func plainPath(path string) bool {
	lower := strings.ToLower(path)
	for _, bad := range []string{"%2f", "%5c", "%00", "%2e", "\\"} {
		if strings.Contains(lower, bad) {
			return false
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == ".." || segment == "." {
			return false
		}
	}
	return true
}

// usualType needs no parsing.
const usualType = "application/json; charset=utf-8"

// mediaType returns the media type of the body, empty when the request names
// none. Only JSON in its CloudEvents forms is taken, in UTF-8, uncompressed.
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

// announced returns how many bytes the body may have. A length that is too large
// is refused before anything is read.
func (c *callback) announced() (int, error) {
	switch n := c.r.ContentLength; {
	case n > MaxBody:
		return 0, errTooLarge
	case n >= 0:
		return int(n), nil
	}
	return MaxBody, nil
}

// cutOff ends the reading of the body.
func (c *callback) cutOff() {
	// It fails where there is no connection, in a test.
	_ = http.NewResponseController(c.w).SetReadDeadline(longAgo)
}

// readBody reads the body within its bound.
func (c *callback) readBody() ([]byte, error) {
	var body []byte
	var err error
	if n := c.r.ContentLength; n >= 0 {
		body = make([]byte, n) // net/http reads no more than was announced
		_, err = io.ReadFull(c.r.Body, body)
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, MaxBody))
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge
	case err != nil:
		return nil, errIncomplete
	}
	return body, nil
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
