// Clients in Go, with libraries as they come. Each prints lines.
//
//	stream URL TOKEN                      net/http: the lines of an event stream
//	socket URL TOKEN TRANSPORT CHANNELS   a Socket.IO client: its events, and the echo of binary data
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/zishang520/socket.io/clients/engine/v3/transports"
	"github.com/zishang520/socket.io/clients/socket/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

func main() {
	if os.Args[1] == "stream" {
		stream(os.Args[2], os.Args[3])
	} else {
		connect(os.Args[2], os.Args[3], os.Args[4], strings.Split(os.Args[5], ","))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func stream(url, token string) {
	request, err := http.NewRequest("GET", url, nil)
	check(err)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	check(err)
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		fmt.Println(lines.Text())
	}
	check(lines.Err())
	fmt.Println("end")
}

func connect(url, token, transport string, channels []string) {
	options := socket.DefaultOptions()
	if transport == "polling" {
		options.SetTransports(types.NewSet(transports.Polling))
	} else {
		options.SetTransports(types.NewSet(transports.WebSocket))
	}
	options.SetAuth(map[string]any{"token": token, "channels": channels})
	client, err := socket.Connect(url, options)
	check(err)
	print := func(name string) func(...any) {
		return func(values ...any) {
			text, _ := json.Marshal(values)
			fmt.Println(name, string(text))
		}
	}
	data := make([]byte, 1000)
	for index := range data {
		data[index] = byte(index * 7)
	}
	check(client.On("connect_error", print("connect_error")))
	check(client.On("disconnect", print("disconnect")))
	check(client.On("updated", print("updated")))
	check(client.On("tidings:ready", func(values ...any) {
		print("tidings:ready")(values...)
		if transport == "polling" {
			// Over polling alone this client (3.0.6) never sends a POST for it.
			return
		}
		check(client.Emit("echo", data, func(replies []any, _ error) { print("ack")(replies...) }))
	}))
	check(client.On("echoed", func(echoed ...any) {
		buffer, isBuffer := echoed[0].(types.BufferInterface)
		if isBuffer && bytes.Equal(buffer.Bytes(), data) {
			fmt.Println("echoed equal")
		} else {
			print("echoed")(echoed...)
		}
	}))
	select {}
}
