// Package bom removes the byte order mark that tools of Windows write in front of
// text.
package bom

import (
	"bytes"
	"fmt"
)

// otherMarks are the marks of encodings that nothing here reads. That of UTF-32 in
// little endian begins with that of UTF-16.
var otherMarks = []struct{ mark, encoding string }{
	{"\xff\xfe\x00\x00", "UTF-32"},
	{"\x00\x00\xfe\xff", "UTF-32"},
	{"\xff\xfe", "UTF-16"},
	{"\xfe\xff", "UTF-16"},
}

// Trim returns text without the mark of UTF-8 in front of it, which RFC 8259,
// section 8.1, lets a reader ignore. Text with the mark of another encoding is an
// error that names it.
func Trim(text []byte) ([]byte, error) {
	for _, other := range otherMarks {
		if bytes.HasPrefix(text, []byte(other.mark)) {
			return nil, fmt.Errorf("the text is %s; write it as UTF-8", other.encoding)
		}
	}
	return bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), nil
}
