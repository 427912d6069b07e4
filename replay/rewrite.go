package replay

import (
	"bytes"
	"encoding/json"
	"errors"
)

// JSONRewriter replaces parts of a JSON document. Names, texts and numbers are as they
// stand in the document, texts and names with their quotes.
type JSONRewriter struct {
	// Text appends the replacement of a text. Member is the name of the member that it
	// belongs to, without quotes; elements of an array belong to the array's member.
	// Depth is the number of objects and arrays around the text.
	Text func(dst, member, text []byte, depth int) []byte
	// Name and Number append the replacement of a member's name and of a number. Nil
	// keeps them.
	Name, Number func(dst, part []byte) []byte
	// Keep reports whether the value and the name of a member are kept as they are. The
	// path has the names of the members from the outermost one to that one; elements of
	// an array have the path of the array. It is valid until Keep returns. Nil keeps none.
	Keep func(path [][]byte) bool
}

// level is an object or an array around a part of a document.
type level struct {
	member []byte // that the part belongs to
	array  bool
}

var errNotJSON = errors.New("the payload is not JSON")

// Rewrite appends a document to dst, on one line. It fails when src is not JSON.
func (r *JSONRewriter) Rewrite(dst, src []byte) ([]byte, error) {
	if !json.Valid(src) {
		return dst, errNotJSON
	}
	var outer [8]level
	levels := outer[:1]
	for at := 0; at < len(src); {
		switch c := src[at]; c {
		case ' ', '\t', '\r', '\n':
			at++
			continue
		case '"':
			end := at + 1
			for src[end] != '"' {
				if src[end] == '\\' {
					end++
				}
				end++
			}
			end++
			part, last := src[at:end], len(levels)-1
			at = end
			rest := bytes.TrimLeft(src[at:], " \t\r\n")
			isName := len(rest) > 0 && rest[0] == ':'
			if isName {
				levels[last].member = part[1 : len(part)-1]
			}
			switch {
			case r.keeps(levels), isName && r.Name == nil:
				dst = append(dst, part...)
			case isName:
				dst = r.Name(dst, part)
			default:
				dst = r.Text(dst, levels[last].member, part, last)
			}
			continue
		case '{', '[':
			levels = append(levels, level{levels[len(levels)-1].member, c == '['})
		case '}', ']':
			levels = levels[:len(levels)-1]
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			end := at + 1
			for end < len(src) && bytes.IndexByte([]byte("0123456789.eE+-"), src[end]) >= 0 {
				end++
			}
			if r.Number != nil && !r.keeps(levels) {
				dst = r.Number(dst, src[at:end])
			} else {
				dst = append(dst, src[at:end]...)
			}
			at = end
			continue
		}
		dst = append(dst, src[at])
		at++
	}
	return dst, nil
}

// keeps asks Keep about the member that the innermost level is at.
func (r *JSONRewriter) keeps(levels []level) bool {
	if r.Keep == nil {
		return false
	}
	var names [8][]byte
	path := names[:0]
	for _, l := range levels[1:] {
		if !l.array {
			path = append(path, l.member)
		}
	}
	return r.Keep(path)
}
