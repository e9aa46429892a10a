package admission

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/util/wait"
)

// house is a server behind doors, whose webhook waits to be told to go on.
type house struct {
	*httptest.Server
	doors  *Doors
	within chan int
	goOn   chan struct{}
}

func newHouse(t *testing.T, bounds Bounds) *house {
	t.Helper()
	doors, err := NewDoors(bounds, prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	h := &house{doors: doors, within: make(chan int, 1000), goOn: make(chan struct{})}
	h.Server = httptest.NewServer(doors.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		h.within <- len(content)
		<-h.goOn
	})))
	t.Cleanup(h.Close)
	return h
}

// send sends a review from a loopback address and returns the status and text of the answer.
func (h *house) send(ctx context.Context, from string, body io.Reader) (int, string) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, body)
	if err != nil {
		return 0, err.Error()
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, err.Error()
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text) + fmt.Sprint(response.Body.Close() != nil)
}

// TestDoors: one address gets its part of the places and others get in beside it; whoever waits too long is told why.
func TestDoors(t *testing.T) {
	t.Parallel()
	h := newHouse(t, Bounds{Reviews: 5, PerAddress: 3, Bytes: 100, Decoded: 1 << 20, Patience: 2 * time.Second})
	const flood, second = "127.0.0.2", "127.0.0.3"
	answers := make(chan string, 100)
	knock := func(from string, n int) {
		for range n {
			go func() {
				status, text := h.send(t.Context(), from, strings.NewReader("{}"))
				answers <- fmt.Sprint(from, " ", status, " ", text)
			}()
		}
	}
	knock(flood, 10)
	for range 3 {
		<-h.within
	}
	knock(second, 2)
	for range 2 {
		<-h.within
	}
	// Now there are five within, and nobody gets in any more.
	knock("127.0.0.4", 1)
	told := map[string]int{}
	for range 8 {
		told[<-answers]++
	}
	for want, n := range map[string]int{
		flood + " 429 3 reviews of your address are looked at already (--max-reviews-per-address); try again in a moment\nfalse": 7,
		"127.0.0.4 429 5 reviews are looked at already (--max-reviews); try again in a moment\nfalse":                            1,
	} {
		if told[want] != n {
			t.Errorf("%d times %q of %v", told[want], want, told)
		}
	}
	// Whoever is not late gets the place of one that leaves.
	knock(flood, 1)
	close(h.goOn)
	for range 6 {
		if got := <-answers; !strings.Contains(got, " 200 ") {
			t.Error(got)
		}
	}
	if got := testutil.ToFloat64(h.doors.turnedAway.WithLabelValues(boundAddress)); got != 7 {
		t.Errorf("%g are counted", got)
	}
	if h.doors.all != 0 || len(h.doors.from) != 0 {
		t.Errorf("%d are still within, of %v", h.doors.all, h.doors.from)
	}
}

// TestFewestIsNext: of those that wait the address with fewest within is next, however many others have waited for longer.
func TestFewestIsNext(t *testing.T) {
	t.Parallel()
	h := newHouse(t, Bounds{Reviews: 2, PerAddress: 2, Bytes: 100, Decoded: 1 << 20, Patience: time.Minute})
	done := make(chan string, 100)
	knock := func(from, body string) {
		go func() {
			status, _ := h.send(t.Context(), from, strings.NewReader(body))
			done <- fmt.Sprint(from, " ", status)
		}()
	}
	waits := func(n int) {
		t.Helper()
		if err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
			return h.waiting() == n, nil
		}); err != nil {
			t.Fatalf("%d wait, want %d", h.waiting(), n)
		}
	}
	knock("127.0.0.2", "{}")
	knock("127.0.0.2", "{}")
	<-h.within
	<-h.within
	for n := range 10 {
		knock("127.0.0.2", "{}")
		waits(n + 1)
	}
	knock("127.0.0.3", "[1]")
	waits(11)
	h.goOn <- struct{}{}
	if got := <-h.within; got != len("[1]") {
		t.Error("a flood that had waited for longer was let in before an address that had none within")
	}
	close(h.goOn)
	for range 13 {
		if got := <-done; !strings.HasSuffix(got, " 200") {
			t.Error(got)
		}
	}
}

// TestDecodedReviews: what is small and takes much when it is decoded is looked at alone.
func TestDecodedReviews(t *testing.T) {
	t.Parallel()
	h := newHouse(t, Bounds{Reviews: 5, PerAddress: 5, Bytes: 1 << 20, Decoded: 64 << 10, Patience: 300 * time.Millisecond})
	large := strings.Repeat("{},", 100)
	first := make(chan int, 1)
	go func() {
		status, _ := h.send(t.Context(), "127.0.0.2", strings.NewReader(large))
		first <- status
	}()
	<-h.within
	if status, text := h.send(
		t.Context(), "127.0.0.3", strings.NewReader("{}"),
	); status != http.StatusTooManyRequests || !strings.Contains(text, "--max-decoded-review-bytes") {
		t.Errorf("beside it: %d %s", status, text)
	}
	close(h.goOn)
	if status := <-first; status != http.StatusOK {
		t.Errorf("alone: %d", status)
	}
	if status, text := h.send(t.Context(), "127.0.0.3", strings.NewReader("{}")); status != http.StatusOK {
		t.Errorf("after it: %d %s", status, text)
	}
}

// waiting is how many wait for a place.
func (h *house) waiting() int {
	h.doors.mu.Lock()
	defer h.doors.mu.Unlock()
	return len(h.doors.waiting)
}

// TestLargeReviews: what is too large is not read, whether its size is told or not.
func TestLargeReviews(t *testing.T) {
	t.Parallel()
	h := newHouse(t, Bounds{Reviews: 1, PerAddress: 1, Bytes: 100, Decoded: 1 << 20, Patience: time.Minute})
	close(h.goOn)
	for size, want := range map[int]int{100: 200, 101: 413} {
		content := bytes.Repeat([]byte{' '}, size)
		for name, body := range map[string]io.Reader{"told": bytes.NewReader(content), "not told": io.MultiReader(bytes.NewReader(content))} {
			if status, text := h.send(t.Context(), "127.0.0.1", body); status != want {
				t.Errorf("%d bytes, %s: %d %s", size, name, status, text)
			}
		}
	}
	if got := testutil.ToFloat64(h.doors.turnedAway.WithLabelValues(boundBytes)); got != 2 {
		t.Errorf("%g are counted", got)
	}
}

// TestSlowReviews: one whose end does not come keeps nobody out, and ends.
func TestSlowReviews(t *testing.T) {
	t.Parallel()
	h := newHouse(t, Bounds{Reviews: 1, PerAddress: 1, Bytes: 100, Decoded: 1 << 20, Patience: 3 * time.Second})
	close(h.goOn)
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", h.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if _, err := io.WriteString(connection, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	if status, text := h.send(t.Context(), "127.0.0.1", strings.NewReader("{}")); status != http.StatusOK {
		t.Errorf("beside it: %d %s", status, text)
	}
	answer, err := io.ReadAll(connection)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
		t.Errorf("%s, %v", answer, err)
	}
	if status, text := h.send(t.Context(), "127.0.0.1", strings.NewReader("{}")); status != http.StatusOK {
		t.Errorf("after it: %d %s", status, text)
	}
	if got := testutil.ToFloat64(h.doors.turnedAway.WithLabelValues(boundTime)); got != 1 {
		t.Errorf("%g are counted", got)
	}
}
