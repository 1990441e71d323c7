package server

// The listener that has only the metrics, with TLS and passwords if monitoring is to show who it
// is. Health checks stay on their own port, for load balancers that know neither.

import (
	"bytes"
	"io"
	stdlog "log"
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/exporter-toolkit/web"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/logging"
	"xks-proxy/internal/metrics"
	"xks-proxy/internal/webconfig"
)

// newMetricsServer is for metrics.listen. HTTP/1.1 is all that a scrape needs.
func (s *servers) newMetricsServer(handler http.Handler) *http.Server {
	c := s.parts.config.Server
	r := chi.NewRouter()
	r.Method(http.MethodGet, MetricsPath, handler)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           r,
		Protocols:         protocols,
		ReadHeaderTimeout: healthHeaderTimeout,
		ReadTimeout:       c.ReadTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       min(c.IdleTimeout, healthIdleTimeout),
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         s.few[metrics.ListenerMetrics].ConnState,
		ErrorLog:          stdlog.New(s.webHandshakes(), "", 0),
	}
}

func (s *servers) webHandshakes() io.Writer {
	quiet := s.parts.opened.Quiet().Writer()
	file := s.parts.config.Metrics.WebConfig
	if file == "" {
		return quiet
	}
	return &webHandshakes{file: file, problems: newWebProblems(s.parts.log), quiet: quiet}
}

// serveMetrics blocks. The file of metrics.web_config is read again at each handshake and request.
func (s *servers) serveMetrics() error {
	file := s.parts.config.Metrics.WebConfig
	problems := newWebProblems(s.parts.log)
	log := slog.New(slog.NewTextHandler(problems, &slog.HandlerOptions{Level: slog.LevelError}))
	return web.Serve(s.listeners.metrics, s.metrics, &web.FlagConfig{WebConfigFile: &file}, log)
}

// webProblems is the library's log of errors: a file that cannot be read any more. Anyone can cause
// a line by a request.
type webProblems struct {
	log   *zap.Logger
	alarm rate.Sometimes
}

const webProblemInterval = certs.RefusalLogInterval

func newWebProblems(log *zap.Logger) *webProblems {
	return &webProblems{log: log, alarm: rate.Sometimes{First: 1, Interval: webProblemInterval}}
}

// Write implements io.Writer.
func (w *webProblems) Write(line []byte) (int, error) {
	w.alarm.Do(func() { w.report(line) })
	return len(line), nil
}

func (w *webProblems) report(detail []byte) {
	shown := webconfig.HideValues(string(bytes.TrimSpace(detail)))
	w.log.Error("the metrics cannot be served: correct the file of metrics.web_config, "+
		"which is read at each connection",
		zap.String("detail", shown[:min(len(shown), logging.MaxQuietText)]))
}

// webHandshakes is the server's log of errors. A file that cannot be used any more shows there as a
// handshake that failed, like those that strangers cause. Reading the file shows which it is.
type webHandshakes struct {
	file     string
	problems *webProblems
	quiet    io.Writer // for all lines
}

// Write implements io.Writer.
func (w *webHandshakes) Write(line []byte) (int, error) {
	w.problems.alarm.Do(func() {
		err := web.Validate(w.file)
		if err != nil {
			w.problems.report([]byte(err.Error()))
		}
	})
	return w.quiet.Write(line)
}
