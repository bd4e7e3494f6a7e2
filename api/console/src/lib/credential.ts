/** A way to get the bearer token of the next call. */
export interface Credential {
  kind: 'clerk' | 'local' | 'oidc' | 'token';
  /** the name of the OpenID issuer */
  issuer?: string;
  /** The token to send; fresh asks for one that was not used before. null: not signed in any more. */
  token(fresh: boolean): Promise<string | null>;
  signOut(): Promise<void>;
  /** What the credential itself tells about its holder, for display. */
  organization?(): { name: string; role: string } | null;
}
