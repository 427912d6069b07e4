// Package bom removes the byte order mark that tools of Windows write in front of
// text.
package bom

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
)

// EncodingError reports text in an encoding that nothing here reads, by the name
// of the encoding.
type EncodingError string

func (e EncodingError) Error() string { return "the text is " + string(e) + "; save it as UTF-8" }

// otherMarks are the marks of such encodings. That of UTF-32 in little endian
// begins with that of UTF-16.
var otherMarks = []struct {
	mark     string
	encoding EncodingError
}{
	{"\xff\xfe\x00\x00", "UTF-32"},
	{"\x00\x00\xfe\xff", "UTF-32"},
	{"\xff\xfe", "UTF-16"},
	{"\xfe\xff", "UTF-16"},
}

// Trim returns text without the mark of UTF-8 in front of it, which RFC 8259,
// section 8.1, lets a reader ignore. The error is an [EncodingError].
func Trim(text []byte) ([]byte, error) {
	for _, other := range otherMarks {
		if bytes.HasPrefix(text, []byte(other.mark)) {
			return nil, other.encoding
		}
	}
	return bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), nil
}

// ReadFile is [os.ReadFile] and [Trim].
func ReadFile(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if text, err = Trim(text); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return text, nil
}

// KeyPair is [tls.LoadX509KeyPair] of files that may have a mark, which would hide
// their first PEM block.
func KeyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}
