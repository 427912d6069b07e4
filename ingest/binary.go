package ingest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/acsbridge/acsbridge/internal/bom"
	"github.com/acsbridge/acsbridge/schemas"
)

// attributePrefix starts the header of each attribute in binary mode
// (CloudEvents HTTP binding 1.0, section 3.1.3).
const attributePrefix = "Ce-"

// isBinary reports whether the headers carry a CloudEvent and the body is its
// data. A media type of CloudEvents says structured mode whatever the headers
// are (HTTP binding, section 3). ACS itself posts structured mode.
func isBinary(h http.Header, contentType string) bool {
	return h.Get("Ce-Specversion") != "" && !strings.HasPrefix(contentType, "application/cloudevents")
}

// structured returns the event of a request in binary mode as one JSON object,
// so that a message's payload has one form whatever the mode it came in. A header
// without a value is an absent attribute. The data keeps its exact bytes when it is
// JSON, and becomes data_base64 when the request names no JSON type. Errors are
// malformedErrors.
func structured(h http.Header, contentType string, body []byte) ([]byte, error) {
	names := make([]string, 0, len(h))
	for name := range h {
		if strings.HasPrefix(name, attributePrefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var b bytes.Buffer
	b.WriteByte('{')
	for _, header := range names {
		if len(h[header]) != 1 {
			return nil, malformed(NotCloudEvents, "an attribute comes more than once")
		}
		name := strings.ToLower(header[len(attributePrefix):])
		if !attributeName(name) {
			return nil, malformed(NotCloudEvents, "an attribute's name is not [a-z0-9]+")
		}
		value, err := url.PathUnescape(h[header][0])
		if err != nil {
			return nil, malformed(NotCloudEvents, "%s is not percent-encoded", name)
		}
		if !utf8.ValidString(value) {
			return nil, malformed(NotUTF8, "%s has bytes that are no UTF-8", name)
		}
		if value != "" {
			member(&b, name, value)
		}
	}
	if contentType != "" {
		member(&b, "datacontenttype", contentType)
		var err error
		if body, err = bom.Trim(body); err != nil {
			return nil, malformed(NotUTF8, "%v", err)
		}
	}
	switch {
	case len(body) == 0:
	case contentType == "":
		b.WriteString(`,"data_base64":"` + base64.StdEncoding.EncodeToString(body) + `"`)
	case !jsontext.Value(body).IsValid():
		return nil, malformed(NotJSON, "the data is not JSON")
	default:
		b.WriteString(`,"data":`)
		b.Write(body)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// member writes one attribute.
func member(b *bytes.Buffer, name, value string) {
	if b.Len() > 1 {
		b.WriteByte(',')
	}
	quoted, _ := json.Marshal(value) // a string cannot fail
	b.WriteString(`"` + name + `":`)
	b.Write(quoted)
}

// attributeName reports whether name is one that CloudEvents 1.0 allows
// (section 3.1, "attribute naming convention"). data would collide with the
// body.
func attributeName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && name != "data" && name != "datacontenttype"
}

// decodeRequest decodes a body in the mode that the headers say.
func decodeRequest(h http.Header, contentType string, body []byte) ([]schemas.Event, error) {
	if isBinary(h, contentType) {
		var err error
		if body, err = structured(h, contentType, body); err != nil {
			return nil, err
		}
	}
	return decode(body)
}
