package api

// The calls of the admin API that have a type of their own.

import (
	"context"
	"net/http"
	"net/url"
)

// Blocks asks for what is blocked, as JSON too.
func (c *Client) Blocks(ctx context.Context) (*BlockList, []byte, error) {
	var list BlockList
	text, err := c.Get(ctx, BlocksPath, &list)
	return &list, text, err
}

// List returns the state of all HSMs, as JSON too.
func (c *Client) List(ctx context.Context) (*List, []byte, error) {
	var status List
	text, err := c.Get(ctx, ListPath, &status)
	return &status, text, err
}

// Keys asks for the keys that fit a query, as JSON too.
func (c *Client) Keys(ctx context.Context, q KeyQuery) (*KeyAnswer, []byte, error) {
	var answer KeyAnswer
	body, err := c.do(ctx, http.MethodGet, KeysPath+"?"+q.values().Encode(), keysPatience)
	if err != nil {
		return nil, nil, err
	}
	err = c.read(body, &answer)
	return &answer, body, err
}

// Reload asks for a reload (POST) or for what one would change (GET).
func (c *Client) Reload(
	ctx context.Context, method string, accept Acceptance,
) (*ReloadAnswer, []byte, error) {
	path := ReloadPath
	if accept != AcceptNothing {
		path += "?" + url.Values{AcceptQuery: {string(accept)}}.Encode()
	}
	body, err := c.do(ctx, method, path, reloadPatience)
	if err != nil {
		return nil, nil, err
	}
	var answer ReloadAnswer
	err = c.read(body, &answer)
	return &answer, body, err
}
