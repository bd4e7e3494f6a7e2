package api

import (
	"fmt"
	"io"
	"net/http"
	"testing"
)

// TestHiddenRequest: a request that states a length and chunks is the last of its connection. So a request hidden in what a
// proxy takes for its body is not served.
func TestHiddenRequest(t *testing.T) {
	h := newHarness(t)
	head := "Host: x\r\nAuthorization: Bearer " + h.token("user_2ada") + "\r\n"
	hidden := "GET /v1/operators/me HTTP/1.1\r\n" + head + "\r\n"
	body := "0\r\n\r\n" + hidden
	_, r := h.raw("POST /compute/ops/launch HTTP/1.1\r\n" + head + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n", len(body)) + body)
	resp, err := http.ReadResponse(r, nil)
	h.must(err)
	_, err = io.Copy(io.Discard, resp.Body)
	h.must(err)
	if !resp.Close {
		t.Error("the connection goes on")
	}
	if next, err := http.ReadResponse(r, nil); err == nil {
		t.Errorf("the hidden request is answered %d", next.StatusCode)
	}
	h.row()
}
