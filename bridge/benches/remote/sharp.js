// A server that resizes JPEGs with sharp, as the yardstick of sharp.rs: POST a JPEG, and it is answered by one of 640x360.
// sharp is found by NODE_PATH. Says "address=HOST:PORT" on its standard error.
//
// What sharp does by itself that ours does too: it has libjpeg decode half of each direction where that leaves enough
// (shrink-on-load). What it does otherwise: it makes RGB of the planes and planes of the result again. Left out for its good: mozjpeg's
// slower and smaller files, and Huffman tables of each picture's own, which are its default and no part of ours.
//
// Tried on two cores with 4 and 8 connections: pools of 2, 4 and 8 threads with 1 and 2 of libvips' for each picture, in one process,
// and with two processes (cluster). Twice as many threads as cores, and one of libvips' for each core, is as good as any.

'use strict';

const http = require('node:http');
const os = require('node:os');

const cores = os.availableParallelism();
// Before anything uses the pool.
process.env.UV_THREADPOOL_SIZE = String(2 * cores);

const sharp = require('sharp');

sharp.concurrency(cores);
// To its cache, each picture that comes is another.
sharp.cache(false);

const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) {
    chunks.push(chunk);
  }
  const made = await sharp(Buffer.concat(chunks))
    .resize(640, 360, { fit: 'fill', kernel: 'cubic' })
    .jpeg({ quality: 85, chromaSubsampling: '4:2:0', optimiseCoding: false, mozjpeg: false })
    .toBuffer();
  response.writeHead(200, { 'Content-Type': 'image/jpeg', 'Content-Length': made.length });
  response.end(made);
});
server.keepAliveTimeout = 0;
server.listen(0, '127.0.0.1', () => console.error(`address=127.0.0.1:${server.address().port}`));
