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
}

var errNotJSON = errors.New("the payload is not JSON")

// Rewrite appends a document to dst, on one line. It fails when src is not JSON.
func (r *JSONRewriter) Rewrite(dst, src []byte) ([]byte, error) {
	if !json.Valid(src) {
		return dst, errNotJSON
	}
	var levels [8][]byte
	members := levels[:1] // the member that each level belongs to
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
			part, last := src[at:end], len(members)-1
			at = end
			rest := bytes.TrimLeft(src[at:], " \t\r\n")
			switch isName := len(rest) > 0 && rest[0] == ':'; {
			case !isName:
				dst = r.Text(dst, members[last], part, last)
			case r.Name != nil:
				dst = r.Name(dst, part)
			default:
				dst = append(dst, part...)
			}
			if len(rest) > 0 && rest[0] == ':' {
				members[last] = part[1 : len(part)-1]
			}
			continue
		case '{', '[':
			members = append(members, members[len(members)-1])
		case '}', ']':
			members = members[:len(members)-1]
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			end := at + 1
			for end < len(src) && bytes.IndexByte([]byte("0123456789.eE+-"), src[end]) >= 0 {
				end++
			}
			if r.Number != nil {
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
