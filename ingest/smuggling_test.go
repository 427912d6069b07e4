package ingest_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/ingest"
)

// recorded is a bridge's server on loopback that records every request that its handler
// gets, and every callback that is stored, by path.
type recorded struct {
	dial      func() (net.Conn, error)
	publisher fakePublisher
	mu        sync.Mutex
	requests  []string
}

func record(t *testing.T) *recorded {
	t.Helper()
	r := &recorded{}
	h := newHandler(t, ingest.Config{Publisher: &r.publisher})
	r.dial = dialer(startServer(t, h, nil, func(s *http.Server) {
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
			r.mu.Lock()
			r.requests = append(r.requests, request.URL.Path)
			r.mu.Unlock()
			h.ServeHTTP(w, request)
		})
	}))
	return r
}

// stored returns the paths of the callbacks that were stored.
func (r *recorded) stored() (paths []string) {
	r.publisher.mu.Lock()
	defer r.publisher.mu.Unlock()
	for _, d := range r.publisher.deliveries {
		paths = append(paths, d.Path)
	}
	return paths
}

// TestSmuggling_isImpossible sends requests whose end a proxy in front may see
// elsewhere than the bridge does. What follows must not be read as a request: it would
// arrive on the proxy's connection, and be trusted like the proxy.
func TestSmuggling_isImpossible(t *testing.T) {
	hidden := fmt.Sprintf("POST /callbacks/hidden HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer x\r\nContent-Length: %d\r\n\r\n%s", len(defaultBody), defaultBody)
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(defaultBody), defaultBody)
	whole := len(chunked + hidden)
	const head = "POST /callbacks/first HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer x\r\n"
	for name, test := range map[string]struct {
		bytes string
		want  int // of the first answer; 0 for none
	}{
		"TE and CL":              {head + fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n", whole) + chunked + hidden, 200},
		"CL and TE":              {head + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n", whole) + chunked + hidden, 200},
		"short CL and TE":        {head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + hidden, 200},
		"CL 0 and TE":            {head + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + hidden, 200},
		"TE alone":               {head + "Transfer-Encoding: chunked\r\n\r\n" + chunked + hidden, 200},
		"TE in capitals":         {head + "TRANSFER-ENCODING: CHUNKED\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 200},
		"TE over two lines":      {head + "Transfer-Encoding:\r\n chunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 200},
		"TE with a tab":          {head + "Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 200},
		"TE twice":               {head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + hidden, 501},
		"TE identity":            {head + fmt.Sprintf("Transfer-Encoding: identity\r\nContent-Length: %d\r\n\r\n", len(defaultBody)) + defaultBody + hidden, 501},
		"TE of two codings":      {head + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked + hidden, 501},
		"TE chunked, identity":   {head + "Transfer-Encoding: chunked, identity\r\n\r\n" + chunked + hidden, 501},
		"TE with a vertical tab": {head + "Transfer-Encoding: \vchunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 400},
		"space before the colon": {head + "Transfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 400},
		"two CLs":                {head + fmt.Sprintf("Content-Length: %d\r\nContent-Length: 4\r\n\r\n", len(defaultBody)) + defaultBody + hidden, 400},
		"two CLs in one line":    {head + fmt.Sprintf("Content-Length: %d, 4\r\n\r\n", len(defaultBody)) + defaultBody + hidden, 400},
		"signed CL":              {head + fmt.Sprintf("Content-Length: +%d\r\n\r\n", len(defaultBody)) + defaultBody + hidden, 400},
		"hex CL":                 {head + "Content-Length: 0x10\r\n\r\n" + defaultBody + hidden, 400},
		"chunk extension":        {head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%s\r\n0\r\n\r\n", len(defaultBody), defaultBody) + hidden, 200},
		"chunk size, bare LF":    {head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\n%s\r\n0\r\n\r\n", len(defaultBody), defaultBody) + hidden, 503},
		"extension, bare LF":     {head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x;\n%s\r\n0\r\n\r\n", len(defaultBody), defaultBody) + hidden, 503},
		"last chunk, bare LF":    {head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\n\n", len(defaultBody), defaultBody) + hidden, 503},
		"chunk too long":         {head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(defaultBody)-1, defaultBody) + hidden, 503},
		"trailer":                {head + fmt.Sprintf("Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n%x\r\n%s\r\n0\r\nContent-Length: 9\r\n\r\n", len(defaultBody), defaultBody) + hidden, 400},
		"token in the trailer":   {fmt.Sprintf("POST /callbacks/first HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n%x\r\n%s\r\n0\r\nAuthorization: Bearer x\r\n\r\n", len(defaultBody), defaultBody) + hidden, 401},
		"header, bare LF and TE": {head + "X: y\nTransfer-Encoding: chunked\nContent-Length: 4\r\n\r\n" + chunked + hidden, 200},
		"header, bare CR":        {head + "X: y\rTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 400},
		"HTTP/1.0 and TE":        {strings.Replace(head, "1.1", "1.0", 1) + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 400},
		"refused, with a body":   {"POST /callbacks/first HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\n" + hidden, 401},
		"GET with a body":        {"GET /callbacks/first HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\n" + hidden, 405},
		"other path":             {"POST /first HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n" + hidden, 404},
		"too large":              {head + "Content-Length: 999999\r\n\r\n" + hidden, 413},
		"expects to be asked":    {"POST /callbacks/first HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n" + hidden, 401},
	} {
		t.Run(name, func(t *testing.T) {
			r := record(t)
			answers, open, _ := send(r.dial, test.bytes) // a reset may follow the answer
			if len(answers) != 1 || answers[0] != test.want || open {
				t.Errorf("answers %v and the connection open: %v, want %d and closed", answers, open, test.want)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, path := range append(r.requests, r.stored()...) {
				if strings.Contains(path, "hidden") {
					t.Errorf("the hidden request arrived: %v, stored %v", r.requests, r.stored())
				}
			}
		})
	}
}

// TestPipelining_verifiesEachRequest pipelines requests with one clear end each: the
// connection stays open after a good one, and a token counts for its own request only.
func TestPipelining_verifiesEachRequest(t *testing.T) {
	request := func(path, authorization string) string {
		return fmt.Sprintf("POST /callbacks/%s HTTP/1.1\r\nHost: b\r\n%sContent-Length: %d\r\n\r\n%s", path, authorization, len(defaultBody), defaultBody)
	}
	const good = "Authorization: Bearer x\r\n"
	r := record(t)
	answers, open, _ := send(r.dial, request("a", good)+request("b", good)+request("c", "")+request("d", good))
	if diff := cmp.Diff([]int{200, 200, 401}, answers); diff != "" || open {
		t.Error(diff, open)
	}
	if diff := cmp.Diff([]string{"a", "b"}, r.stored()); diff != "" {
		t.Error(diff)
	}
}
