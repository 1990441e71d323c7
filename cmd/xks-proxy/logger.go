package main

// The log: structured lines, buffered for a moment, so that a request does not
// wait for a disk.

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	logBuffer = 256 << 10 // bytes
	logFlush  = 100 * time.Millisecond
)

// newLogger opens the log. The function returned flushes it.
func newLogger(c logConfig) (*zap.Logger, func(), error) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, nil, err
	}
	out, err := openLog(c.Output)
	if err != nil {
		return nil, nil, err
	}
	encoding := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", MessageKey: "msg", NameKey: "logger",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeTime:     encodeUTC,
		EncodeDuration: zapcore.StringDurationEncoder,
		EncodeName:     zapcore.FullNameEncoder,
	}
	encoder := zapcore.NewJSONEncoder(encoding)
	if c.Format == "console" {
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	buffer := &zapcore.BufferedWriteSyncer{WS: out, Size: logBuffer, FlushInterval: logFlush}
	log := zap.New(zapcore.NewCore(encoder, buffer, level))
	return log, func() { _ = buffer.Stop() }, nil // nowhere is left to report it
}

func encodeUTC(t time.Time, e zapcore.PrimitiveArrayEncoder) {
	e.AppendString(t.UTC().Format("2006-01-02T15:04:05.000000Z"))
}

func openLog(output string) (zapcore.WriteSyncer, error) {
	switch output {
	case "stderr":
		return zapcore.Lock(os.Stderr), nil
	case "stdout":
		return zapcore.Lock(os.Stdout), nil
	}
	file, err := os.OpenFile(output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("the log cannot be opened (log.output): %w", err)
	}
	return zapcore.Lock(file), nil
}
