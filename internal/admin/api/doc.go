// Package api is what the admin socket speaks: the paths, the JSON types of requests and answers,
// and the client for them.
package api
