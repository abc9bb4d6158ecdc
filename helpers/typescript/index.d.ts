import type { IncomingMessage, ServerResponse } from "node:http";
import type { JWTPayload } from "jose";

export interface Options {
  /** The gateway's public URL: `iss` of its assertions. */
  issuer: string;
  /** The tag of this server: `aud` of assertions that are meant for it. */
  audience: string;
  /** Where the gateway's keys are. Default: `ISSUER/.well-known/jwks.json`. */
  jwks?: string;
  /** Difference of clocks that is forgiven, seconds. Default 5. */
  leeway?: number;
  /** Assertions that are remembered against a second use. Default 100,000; a full memory refuses. */
  remembered?: number;
  /** Told why a request was refused. The caller is not. */
  onRefused?: (why: string) => void;
}

export interface Guard {
  /** The claims of an assertion; throws for any that is not good, and for a good one the second time. */
  verify(assertion: string | null | undefined): Promise<JWTPayload>;
  /** Middleware of express, connect and plain `node:http`; the claims are in `request.assertion`. */
  express(): (
    request: IncomingMessage & { assertion?: JWTPayload },
    response: ServerResponse,
    next: (error?: unknown) => void,
  ) => Promise<void>;
  /** A handler of the Fetch standard (Hono, Workers, Deno, Bun) behind the guard; the claims are its second argument. */
  fetch<A extends unknown[]>(
    handler: (request: Request, claims: JWTPayload, ...rest: A) => Response | Promise<Response>,
  ): (request: Request, ...rest: A) => Promise<Response>;
}

export declare const HEADER: "cf-access-jwt-assertion";
export declare function guard(options: Options): Guard;
