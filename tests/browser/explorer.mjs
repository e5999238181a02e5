export async function exploreAll(page) { return { complaints: ["not yet"] }; }
