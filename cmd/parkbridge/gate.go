package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"parkbridge/sink/gate"
)

func (a *app) gateCommand() *cobra.Command {
	var listen, secret, store string
	var latency time.Duration
	var answers []string
	cmd := &cobra.Command{
		Use:   "gate",
		Short: "Run a local stand-in for the platform",
		Long: `Run a local stand-in for the platform. It verifies signatures and required
fields, ignores a repeated flow_no, keeps what it got, and can be told to fail.
A GET of its address gives its counts.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var overrides []gate.Answer
			for _, s := range answers {
				o, err := gate.ParseAnswer(s)
				if err != nil {
					return &exit{exitUsage, err}
				}
				overrides = append(overrides, o)
			}
			cfg := gate.Config{Secret: secret, Latency: latency}
			if store == "" {
				return classed(a.serveGate(cmd.Context(), listen, gate.New(cfg), overrides))
			}
			f, err := os.OpenFile(store, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
			if err != nil {
				return classed(err)
			}
			defer f.Close()
			cfg.Store = f
			g := gate.New(cfg)
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return classed(err)
			}
			if err := g.Load(f); err != nil {
				return classed(err)
			}
			return classed(a.serveGate(cmd.Context(), listen, g, overrides))
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "the address to listen on")
	cmd.Flags().StringVar(&secret, "secret", "", "the app_secret that signatures are verified with; empty takes unsigned calls")
	cmd.Flags().StringVar(&store, "store", "", "a file that gets every record taken, one JSON object a line")
	cmd.Flags().DurationVar(&latency, "latency", 0, "how long every answer takes")
	cmd.Flags().StringArrayVar(&answers, "answer", nil, "answer CODE, drop-before or drop-after, each optionally with :every N")
	return cmd
}

func (a *app) serveGate(ctx context.Context, listen string, g *gate.Gate, overrides []gate.Answer) error {
	g.Answer(overrides...)
	stop, address, err := startGate(ctx, listen, g)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "The stand-in gate listens on http://%s/gate/1.0/parking/internal/update\n", address)
	<-ctx.Done()
	err = stop()
	s := g.Stats()
	fmt.Fprintf(a.stdout, "%d calls, %d records taken, %d repeats ignored.\n", s.Calls, s.Taken, s.Repeats)
	return err
}

// startGate serves a gate in the background until stop is called.
func startGate(ctx context.Context, listen string, g *gate.Gate) (stop func() error, address string, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, "", err
	}
	srv := &http.Server{Handler: g, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	return func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		err := srv.Shutdown(ctx)
		if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, l.Addr().String(), nil
}
