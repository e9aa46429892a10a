package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

func probe(ctx context.Context, address string) error {
	_, err := fetch(ctx, "http://"+address+"/readyz")
	return err
}

// fetch is the content of a page.
func fetch(ctx context.Context, url string) (content string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	// A transport of its own leaves no connection behind.
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", url, response.Status)
	}
	return string(body), nil
}
