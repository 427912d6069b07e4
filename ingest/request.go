package ingest

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/acsbridge/acsbridge/schemas"
)

// pathBelow returns what an escaped path has below the callback path.
func pathBelow(callbackPath, path string) (below string, ok bool) {
	below, ok = strings.CutPrefix(path, callbackPath)
	if !ok || (below != "" && below[0] != '/') || !isPlainPath(path) {
		return "", false
	}
	return strings.TrimPrefix(below, "/"), true
}

// checkPath checks a configured path.
func checkPath(what, path string) error {
	if path == LivezPath || path == "/" {
		return fmt.Errorf("%s %q: covers %s, the path of health probes; choose another, like %s", what, path, LivezPath, DefaultPath)
	}
	if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || !isPlainPath(path) {
		return fmt.Errorf("%s %q: must start with a slash, not end with one, and need no escapes", what, path)
	}
	return nil
}

// isPlainPath reports whether every proxy reads a path in the same way: it has no
// encoded slash, backslash or NUL, and no dot segment.
func isPlainPath(path string) bool {
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

// KeyParameter is the parameter of a URL's query that carries a callback key or a key
// of Event Grid's route. It is removed before anything is stored.
const KeyParameter = "acsbridge-key"

// splitKeys removes the values of [KeyParameter] from a query and leaves the rest as
// it is, byte for byte. It does so also when no keys are configured: a URL may still
// have one.
func splitKeys(query string) (rest string, values []string) {
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
