package schemas

import (
	"bytes"
	"encoding/json"
)

// eachMember visits the members of a JSON object in their order. The document
// must be valid JSON; values are parts of it. It reports whether that is an
// object. It is here because [encoding/json] would look at each byte of an event
// once for each object around it.
func eachMember(document []byte, visit func(name string, value []byte)) bool {
	at := skipSpace(document, 0)
	if document[at] != '{' {
		return false
	}
	for at = skipSpace(document, at+1); document[at] != '}'; {
		end := endOfString(document, at)
		name := unquote(document[at:end])
		at = skipSpace(document, skipSpace(document, end)+1) // behind the colon
		end = endOfValue(document, at)
		visit(name, document[at:end:end])
		if at = skipSpace(document, end); document[at] == ',' {
			at = skipSpace(document, at+1)
		}
	}
	return true
}

// skipSpace returns where the next byte is that is no white space (RFC 8259,
// section 2).
func skipSpace(document []byte, at int) int {
	for document[at] == ' ' || document[at] == '\t' || document[at] == '\r' || document[at] == '\n' {
		at++
	}
	return at
}

// endOfString returns where a string ends that begins at a position.
func endOfString(document []byte, at int) int {
	for at++; document[at] != '"'; at++ {
		if document[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// endOfValue returns where a value ends that begins at a position.
func endOfValue(document []byte, at int) int {
	switch document[at] {
	case '"':
		return endOfString(document, at)
	case '{', '[':
		return endOfBrackets(document, at)
	}
	if n := bytes.IndexAny(document[at:], ",]} \t\r\n"); n >= 0 {
		return at + n
	}
	return len(document)
}

// endOfBrackets returns where an object or an array ends that begins at a
// position.
func endOfBrackets(document []byte, at int) int {
	for depth := 0; ; {
		switch document[at] {
		case '"':
			at = endOfString(document, at)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if at++; depth == 0 {
			return at
		}
	}
}

// unquote returns what a string says.
func unquote(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		panic("schemas: " + err.Error()) // the document was valid
	}
	return s
}
