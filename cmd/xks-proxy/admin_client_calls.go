package main

// The calls of the admin API that have a type of their own.

import (
	"context"
	"net/http"
	"net/url"
)

// blocks asks for what is blocked, as JSON too.
func (c *adminClient) blocks(ctx context.Context) (*blockList, []byte, error) {
	var list blockList
	text, err := c.get(ctx, adminBlocksPath, &list)
	return &list, text, err
}

// list returns the state of all HSMs, as JSON too.
func (c *adminClient) list(ctx context.Context) (*adminStatus, []byte, error) {
	var status adminStatus
	text, err := c.get(ctx, adminListPath, &status)
	return &status, text, err
}

// keys asks for the keys that fit a query, as JSON too.
func (c *adminClient) keys(ctx context.Context, q keyQuery) (*keyAnswer, []byte, error) {
	var answer keyAnswer
	body, err := c.do(ctx, http.MethodGet, adminKeysPath+"?"+q.values().Encode(), keysPatience)
	if err != nil {
		return nil, nil, err
	}
	err = c.read(body, &answer)
	return &answer, body, err
}

// reload asks for a reload (POST) or for what one would change (GET).
func (c *adminClient) reload(
	ctx context.Context, method string, accept acceptance,
) (*reloadAnswer, []byte, error) {
	path := adminReloadPath
	if accept != acceptNothing {
		path += "?" + url.Values{acceptQuery: {string(accept)}}.Encode()
	}
	body, err := c.do(ctx, method, path, reloadPatience)
	if err != nil {
		return nil, nil, err
	}
	var answer reloadAnswer
	err = c.read(body, &answer)
	return &answer, body, err
}
